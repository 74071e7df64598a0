"""The web application: `granian --interface wsgi config.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

from config.chunked import with_length
from config.plainly import told_plainly

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
with told_plainly():
    application = with_length(get_wsgi_application())
