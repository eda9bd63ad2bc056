"""Where the block types' pages in the Prefect UI point to."""

REPOSITORY = "https://github.com/chaitanyakasaraneni/clinops-prefect"
# Prefect takes http(s) addresses only, so the logo cannot come along as data. Without a network the UI shows none.
LOGO = f"{REPOSITORY}/raw/main/docs/logo.png"
UI_GUIDE = f"{REPOSITORY}/blob/main/docs/guide-ui.md"
