from django.urls import path, re_path

from ledger.api import problems, proofs, runs

urlpatterns = [
    path("runs", runs.Runs.as_view()),
    path("batches/<str:batch>", runs.BatchOfRuns.as_view()),
    path("heads", proofs.Heads.as_view()),
    path("accounts/<str:account>/runs/<path:run>/proof", proofs.RunProof.as_view()),
    path("accounts/<str:account>/runs/<path:run>", runs.RunReceipt.as_view()),
    re_path(r"^(?P<path>.*)$", problems.not_found),
]
