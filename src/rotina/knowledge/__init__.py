"""rotina.knowledge."""
