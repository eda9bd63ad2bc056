"""The command line: `python -m flows.synthetic --out DIR --stays 1000`."""

from clinops_prefect.command_line import Parser, run
from flows.running.terminal import counting_line
from flows.synthetic.tables import FORMATS, generate


def main() -> None:
    """Run the command line."""
    parser = Parser("flows.synthetic", "Write synthetic MIMIC-IV tables.", "--out demo/mimic-iv-synthetic --stays 200")
    parser.add_argument("--out", required=True, help="an empty or absent folder")
    parser.add_argument("--stays", type=int, required=True, help="how many ICU stays")
    parser.add_argument("--rows", type=int, help="chart rows; 1,000 a stay by default")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same data (default 0)")
    parser.add_argument("--format", choices=FORMATS, default="csv.gz", help="of the tables (default csv.gz)")
    parser.add_argument("--catalogue-share", type=float, default=0.14, help="share of rows of the catalogue's items")
    arguments = parser.parse_args()
    rows = 1000 * arguments.stays if arguments.rows is None else arguments.rows

    def work() -> None:
        with counting_line("synthetic rows", rows + rows // 10, "rows") as wrote:
            generate(
                arguments.out,
                arguments.stays,
                rows=rows,
                seed=arguments.seed,
                format=arguments.format,
                catalogue_share=arguments.catalogue_share,
                wrote=wrote,
            )

    run(work, debug=arguments.debug)


if __name__ == "__main__":
    main()
