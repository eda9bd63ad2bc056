"""Prefect results: frames as Parquet and the rest as JSON, with nothing that runs code when it is read.

This package is also the entry point `prefect.plugins`: with `PREFECT_PLUGINS_ENABLED=true`, `import prefect` imports it
and Prefect then knows the type `clinops/dataframe`. It therefore imports pandas and pyarrow with the first result only.
"""

from clinops_prefect.results.serializer import DataFrameSerializer as DataFrameSerializer

# The version of Prefect's plugin interface that this entry point is written for.
PREFECT_PLUGIN_API_REQUIRES = ">=0.1,<1"
