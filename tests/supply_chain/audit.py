"""A report of known vulnerabilities in what constraints.txt pins. It informs; it does not fail a build.

python -m tests.supply_chain.audit

An advisory is published any day, and is then true of a commit that was good the day before. Where the advisory service
cannot be reached, the report says that nothing is known.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"


def main() -> None:
    """Print the report."""
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off", "--timeout", "10"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, subprocess.TimeoutExpired) as error:
        print(f"pip-audit: the advisory service was not reached ({type(error).__name__}); NOTHING WAS AUDITED")
        return
    audited = [each for each in found if "skip_reason" not in each]
    vulnerable = [each for each in audited if each["vulns"]]
    if not audited:
        print(f"pip-audit: the advisory service knows none of {len(found)} packages: NOTHING WAS AUDITED")
        return
    print(f"pip-audit: {len(audited)} of {len(found)} packages audited, {len(vulnerable)} with known vulnerabilities")
    for each in vulnerable:
        for advisory in each["vulns"]:
            fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
            print(f"  {each['name']} {each['version']}: {advisory['id']}, fixed in {fixed}")


if __name__ == "__main__":
    main()
