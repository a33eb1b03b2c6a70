"""This deployment: Celery app, queues and beat schedule."""
