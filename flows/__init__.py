"""Four example flows for ICU data, and the packages that they use.

`icu` has the pure steps, here in the order of the data: `catalogue` (what is measured), `raw` (rows of any source),
`cohort`, `events` (cleaning), `windows` (features), `quality` and `drift`. `sources` reads MIMIC-IV, FHIR and MEDS.
`reports` draws pages. `running` has tasks, partitions, engines and command lines. `synthetic` makes data for a first
try.
"""
