"""Supervised learning to learn: few-shot classification and regression. It runs without MuJoCo."""
