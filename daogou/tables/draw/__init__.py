"""A world's settings and a seed to products, shoppers, slates and what came of them."""
