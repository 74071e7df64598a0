from django.urls import path, re_path

from ledger.api import corrections, holds, limits, problems, proofs, runs

urlpatterns = [
    path("runs", runs.Runs.as_view()),
    path("batches/<str:batch>", runs.BatchOfRuns.as_view()),
    path("heads", proofs.Heads.as_view()),
    path("accounts/<str:account>/runs/<path:run>/proof", proofs.RunProof.as_view()),
    path("accounts/<str:account>/runs/<path:run>/void", corrections.VoidRun.as_view()),
    path("accounts/<str:account>/runs/<path:run>/outcome", corrections.OutcomeOfRun.as_view()),
    path("accounts/<str:account>/runs/<path:run>", runs.RunReceipt.as_view()),
    path("holds", holds.Holds.as_view()),
    path("holds/<str:account>/<path:run>/capture", holds.Capture.as_view()),
    path("holds/<str:account>/<path:run>/release", holds.Release.as_view()),
    path("holds/<str:account>/<path:run>", holds.HoldOfRun.as_view()),
    path("accounts/<str:account>/limits", limits.Limits.as_view()),
    path("accounts/<str:account>/limits/<int:limit>/end", limits.EndLimit.as_view()),
    path("accounts/<str:account>/excesses", limits.Excesses.as_view()),
    path("accounts/<str:account>/reviews", limits.Reviews.as_view()),
    path("accounts/<str:account>/reviews/<int:review>", limits.ReviewOfLimit.as_view()),
    path("accounts/<str:account>/reviews/<int:review>/answer", limits.AnswerReview.as_view()),
    re_path(r"^(?P<path>.*)$", problems.not_found),
]
