"""Trained runs as one self-contained HTML page: recorded numbers in, text out."""

from .page import report_page
from .run_record import Curve, Evaluation, RunRecord, Video, read_runs

__all__ = ["Curve", "Evaluation", "RunRecord", "Video", "read_runs", "report_page"]
