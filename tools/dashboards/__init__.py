"""Generates the Grafana dashboards of the chart. Run ``make dashboards`` after changing one."""
