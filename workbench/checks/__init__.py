"""Is a model read rightly here, and an SAE rightly on it? What a person asks first of a model of their own."""
