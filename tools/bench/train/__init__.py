"""What training costs: TRL as it comes, TRL tuned by an expert, and ours, on the same model, pairs and order."""
