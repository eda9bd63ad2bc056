"""Four example flows for ICU data, and what they are made of.

`icu` has the pure steps, in the order in which data passes them: `catalogue` (what is measured), `raw` (rows of
any source), `cohort`, `events` (cleaning), `windows` (features), `quality` and `drift`. `sources` reads MIMIC-IV
and FHIR, `reports` draws pages, `running` has tasks, partitions, engines and command lines, `synthetic` makes data
to try it all on.
"""
