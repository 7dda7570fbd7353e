"""How does a result look as a picture? Rows → figures, with a still picture for where no script runs."""
