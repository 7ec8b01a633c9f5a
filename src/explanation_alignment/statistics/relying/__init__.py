"""Which regions a model relies on: what maps show, what interventions show, and the rule that joins them."""
