"""One grammar of charts: marks, axes and scales, written as SVG."""
