"""Example flows for ICU data, and the pure steps they are made of.

The steps know neither Prefect nor a store: frames in, frames and counts out. In the order in which data passes them:
`catalogue` (what is measured) → `tables` (reading) → `ingest` → `cohort` → `events` (cleaning) → `windows` (features)
→ `quality` and `quality_page` (the report). `synthetic` makes data to try them on.
"""
