"""The explorer: a web application on this machine that shows a warehouse while jobs may write to it.

store = Store(WarehouseFile(Path("warehouse.duckdb")))
app = create_app(store, token="…", port=8000)     # an ASGI application of Starlette

rows come from the questions in sql/questions/serve, pages from the templates beside this file.
"""
