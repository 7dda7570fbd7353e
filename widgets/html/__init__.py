"""How does a result look as a page? Rows → HTML; nothing here knows a model."""
