"""What the steps are fed with: MIMIC-IV tables and FHIR R4 exports, read in bounded batches."""
