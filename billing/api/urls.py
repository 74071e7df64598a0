from django.urls import path

from billing.api import stripe_webhook

urlpatterns = [
    path("stripe/webhook", stripe_webhook.receive, name="stripe-webhook"),
]
