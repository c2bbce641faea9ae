"""Both frameworks, stage by stage."""
