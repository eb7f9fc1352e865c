"""Makes bundles: reads data, trains sequential recommenders, exports them."""
