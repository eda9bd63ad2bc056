"""Prefect results: frames as Parquet, everything else as JSON. Reading a result runs no code.

This package is also the entry point `prefect.plugins`: with `PREFECT_PLUGINS_ENABLED=true`, `import prefect` imports
it, so that Prefect knows the type `clinops/dataframe`. It imports pandas and PyArrow only for the first result.
"""

from clinops_prefect.results.serializer import DataFrameSerializer as DataFrameSerializer

# The version of Prefect's plugin interface that this entry point is written for.
PREFECT_PLUGIN_API_REQUIRES = ">=0.1,<1"
