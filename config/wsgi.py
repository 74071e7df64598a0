"""The web application: `granian --interface wsgi config.wsgi:application`."""

import gc
import os

from django.core.wsgi import get_wsgi_application

from config.chunked import with_length
from config.plainly import told_plainly

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
with told_plainly():
    usual = get_wsgi_application()
    # Only now: its views need the applications that are set up.
    from ledger.api.direct import directly

    application = with_length(directly(usual))

# What is loaded by now stays. A body of runs makes enough objects for the collector of cycles to
# look at all there are every few requests: it need not look at these.
gc.collect()
gc.freeze()
