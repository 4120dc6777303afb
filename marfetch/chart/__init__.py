"""What is inside a chart package: the chart that it must contain, and the container images that it names."""
