"""The Celery app of this deployment: `celery -A workers.app worker …`, or `rotina worker io`.

Queues, routes and the beat schedule of Rotina are set; add your own tasks and schedules here.
"""

from rotina.settings import load_settings
from rotina.worker import create_app

app = create_app(load_settings())
