#!/usr/bin/env python3
"""The Grafana dashboard, made from code.

dashboard.py render    writes helm/surgegate/files/dashboard.json
dashboard.py check     fails where that file is not what would be written

Rows from the worst to the ordinary. Import it by hand, or let the chart's ConfigMap bring it: Grafana 10 and later.
"""

import json
import pathlib
import sys

OUT = pathlib.Path(__file__).resolve().parent.parent / "helm/surgegate/files/dashboard.json"
WIDTH = 24
# What the variables choose; every query carries it.
ME = 'job=~"$job",instance=~"$instance"'
RATE = "$__rate_interval"

panels = []
at = {"x": 0, "y": 0, "height": 0}


def row(title: str) -> None:
    at.update(x=0, y=at["y"] + at["height"], height=1)
    panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], **place(WIDTH, 1)})
    at.update(x=0, y=at["y"] + 1, height=0)


def place(width: int, height: int) -> dict:
    """The next free place in the row, from left to right."""
    if at["x"] + width > WIDTH:
        at.update(x=0, y=at["y"] + at["height"], height=0)
    grid = {"x": at["x"], "y": at["y"], "w": width, "h": height}
    at.update(x=at["x"] + width, height=max(at["height"], height))
    return {"id": len(panels) + 1, "gridPos": grid}


def targets(queries) -> list:
    """`[(PromQL, legend)]`; `ME` goes in for `@`."""
    made = []
    for number, (expression, legend) in enumerate(queries):
        expression = expression.replace("@", ME)
        made.append({"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend, "datasource": SOURCE})
    return made


SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def chart(title, queries, unit="short", about="", width=12, stack=False, top=None) -> None:
    custom = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}
    if stack:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    defaults = {"unit": unit, "min": 0, "custom": custom}
    if top is not None:
        defaults["max"] = top
    panels.append({
        "type": "timeseries", "title": title, "description": about, "datasource": SOURCE, "targets": targets(queries),
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
        **place(width, 8),
    })


def stat(title, query, about, unit="short", good="green", steps=(("red", 1),), mappings=()) -> None:
    """One number, coloured by its steps; words for single values so that the colour says nothing alone."""
    panels.append({
        "type": "stat", "title": title, "description": about, "datasource": SOURCE,
        "targets": [{**targets([(query, "")])[0], "instant": True}],
        "fieldConfig": {"defaults": {
            "unit": unit,
            "thresholds": {"mode": "absolute", "steps": [{"color": good, "value": None},
                                                         *({"color": colour, "value": value} for colour, value in steps)]},
            "mappings": [{"type": "value", "options": {str(value): {"text": text, "index": 0}}} for value, text in mappings],
        }, "overrides": []},
        "options": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "background", "graphMode": "none"},
        **place(4, 4),
    })


def quantiles(metric: str, by: str = "") -> list:
    legend = f"{{{{{by}}}}} " if by else ""
    names = [by, "le"] if by else ["le"]
    summed = f"sum by ({', '.join(names)}) (rate({metric}_bucket{{@}}[{RATE}]))"
    return [(f"histogram_quantile({part}, {summed})", f"{legend}p{text}")
            for part, text in [("0.5", "50"), ("0.99", "99"), ("0.999", "99.9")]]


def build() -> dict:
    row("Is anything lost or stuck?")
    stat("Processes up", 'count(surgegate_build_info{@})', "Processes that are scraped.", good="red", steps=(("green", 1),))
    stat("Books that do not balance",
         "sum(abs(surgegate_events_received_total{@} - surgegate_events_accepted_total{@}"
         " - (sum without (outcome) (surgegate_events_absorbed_total{@}) or surgegate_events_received_total{@} * 0)"
         " - (sum without (reason) (surgegate_events_rejected_total{@}) or surgegate_events_received_total{@} * 0)"
         " - surgegate_events_in_flight{@}))",
         "Events received and not accounted for. Anything but 0 is a defect.", mappings=[(0, "balance")])
    stat("Oldest waiting", "max(surgegate_spool_oldest_event_age_seconds{@})",
         "Age of the oldest event that waits for any upstream.", "s", steps=(("yellow", 60), ("red", 300)))
    stat("Waiting", "sum(surgegate_spool_events{@})", "Events on disk that no upstream has taken yet.",
         steps=(("yellow", 1000), ("red", 100000)))
    stat("Dead letters", "sum(surgegate_dead_letters{@})", "Refused for good: nobody was told of them.", mappings=[(0, "none")])
    stat("Given up in a day", 'sum(increase(surgegate_events_dropped_total{@,reason=~"dead_letter_space|unresolvable"}[1d]))',
         "Events given up without an operator's word.", mappings=[(0, "none")])
    stat("Circuits not closed", "count(surgegate_upstream_circuit_state{@} > 0) or vector(0)",
         "Upstreams that fail just now.", mappings=[(0, "none")])
    stat("Refused for want of a spool",
         'sum(increase(surgegate_events_rejected_total{@,reason=~"spool_full|spool_failed"}[15m])) or vector(0)',
         "In 15 minutes. The senders were told to come back.", mappings=[(0, "none")])
    stat("Spool needed", "max(surgegate_spool_needed_bytes{@} / surgegate_spool_capacity_bytes{@})",
         "Part of the spool that cannot be let go.", "percentunit", steps=(("yellow", 0.5), ("red", 0.8)))
    stat("Damaged records", "sum(surgegate_spool_damaged_records_total{@})", "Since the start of each process.", mappings=[(0, "none")])
    stat("Orphaned events", "sum(surgegate_spool_orphaned_events{@})", "They wait for an upstream that is not configured.",
         mappings=[(0, "none")])
    stat("Configuration", "min(surgegate_config_last_reload_successful{@})", "Whether the last (re)load worked.", good="red",
         steps=(("green", 1),), mappings=[(0, "not taken"), (1, "in force")])

    row("Flow")
    chart("Events", [
        (f"sum(rate(surgegate_events_received_total{{@}}[{RATE}]))", "received"),
        (f"sum(rate(surgegate_events_accepted_total{{@}}[{RATE}]))", "accepted"),
        (f"sum(rate(surgegate_events_absorbed_total{{@}}[{RATE}]))", "absorbed"),
        (f"sum(rate(surgegate_events_rejected_total{{@}}[{RATE}]))", "rejected"),
        (f"sum(rate(surgegate_events_delivered_total{{@}}[{RATE}]))", "delivered"),
    ], "eps", "Accepted goes to at least one upstream; absorbed to none (duplicates above all).")
    chart("Requests by dialect", [(f"sum by (dialect) (rate(surgegate_http_requests_total{{@}}[{RATE}]))", "{{dialect}}")], "reqps",
          stack=True)

    row("Intake")
    chart("Time to answer", quantiles("surgegate_http_request_duration_seconds"), "s", "From the request's head to its answer.")
    chart("Write and sync of the log", quantiles("surgegate_spool_sync_duration_seconds"), "s",
          "What every accepted event waits for.")
    chart("Answers by status", [(f"sum by (code) (rate(surgegate_http_requests_total{{@}}[{RATE}]))", "{{code}}")], "reqps", stack=True)
    chart("Connections and requests in work", [
        ("sum by (instance) (surgegate_http_connections{@})", "{{instance}} connections"),
        ("sum by (instance) (surgegate_http_requests_in_flight{@})", "{{instance}} requests"),
        ("sum by (instance) (surgegate_events_in_flight{@})", "{{instance}} events being decided"),
    ])

    row("Delivery by upstream")
    chart("Receipt to delivery", quantiles("surgegate_delivery_latency_seconds", "upstream"), "s")
    chart("Requests by answer", [(f"sum by (upstream, code) (rate(surgegate_upstream_requests_total{{@}}[{RATE}]))",
                                 "{{upstream}} {{code}}")], "reqps", stack=True)
    chart("Circuit", [("max by (upstream) (surgegate_upstream_circuit_state{@})", "{{upstream}}")], "short",
          "0 closed, 1 half open, 2 open.", width=8, top=2)
    chart("Repeats", [
        (f"sum by (upstream) (rate(surgegate_upstream_retries_total{{@}}[{RATE}]))", "{{upstream}} after a failure"),
        (f"sum by (upstream) (rate(surgegate_deliveries_repeated_total{{@}}[{RATE}]))", "{{upstream}} may repeat a success"),
    ], "eps", width=8)
    chart("Dead letters", [
        ("sum by (upstream) (surgegate_dead_letters{@})", "{{upstream}} now"),
        ("sum by (upstream, reason) (increase(surgegate_events_dead_lettered_total{@}[1h]))", "{{upstream}} {{reason}} in an hour"),
    ], width=8)

    row("Spool")
    chart("Events that wait", [("sum by (upstream) (surgegate_spool_events{@})", "{{upstream}}")], width=8)
    chart("Age of the oldest", [("max by (upstream) (surgegate_spool_oldest_event_age_seconds{@})", "{{upstream}}")], "s", width=8)
    chart("Bytes", [
        ("sum by (instance) (surgegate_spool_needed_bytes{@})", "{{instance}} needed"),
        ("sum by (instance) (surgegate_spool_bytes{@})", "{{instance}} held"),
        ("sum by (instance) (surgegate_spool_capacity_bytes{@})", "{{instance}} at most"),
    ], "bytes", "Held is more than needed: what was delivered stays for `spool.retain` while there is room.", width=8)
    chart("In and out", [
        (f"sum by (upstream) (rate(surgegate_events_enqueued_total{{@}}[{RATE}]))", "{{upstream}} enqueued"),
        (f"sum by (upstream) (rate(surgegate_events_delivered_total{{@}}[{RATE}]))", "{{upstream}} delivered"),
        (f"sum by (upstream, reason) (rate(surgegate_events_dropped_total{{@}}[{RATE}]))", "{{upstream}} dropped: {{reason}}"),
    ], "eps")
    chart("Failures and damage", [
        (f"sum by (instance) (increase(surgegate_spool_write_failures_total{{@}}[{RATE}]))", "{{instance}} writes and syncs that failed"),
        ("sum by (instance) (surgegate_spool_damaged_records_total{@})", "{{instance}} damaged records"),
    ])

    row("Deduplication")
    chart("Absorbed by outcome", [(f"sum by (outcome) (rate(surgegate_events_absorbed_total{{@}}[{RATE}]))", "{{outcome}}")], "eps",
          stack=True, width=8)
    chart("Keys held", [("sum by (instance) (surgegate_dedup_entries{@})", "{{instance}}")], width=8)
    chart("Past their bounds", [
        (f"sum(rate(surgegate_dedup_untracked_total{{@}}[{RATE}]))", "forwarded without deduplication"),
        (f"sum(rate(surgegate_dedup_expired_total{{@}}[{RATE}]))", "open incidents forgotten"),
        (f"sum(rate(surgegate_unknown_absorbed_total{{@}}[{RATE}]))", "unknown resolves past their line"),
        (f"sum(rate(surgegate_truncated_alerts_total{{@}}[{RATE}]))", "left out by an Alertmanager"),
        (f"sum(rate(surgegate_idempotency_body_mismatch_total{{@}}[{RATE}]))", "idempotency key with another body"),
        (f"sum(rate(surgegate_dedup_unconfirmed_total{{@}}[{RATE}]))", "forwarded again: no replica could be asked"),
        (f"sum(rate(surgegate_order_given_up_total{{@}}[{RATE}]))", "sent before what waits at a replica that is gone"),
        (f"sum(rate(surgegate_sns_unconfirmed_total{{@}}[{RATE}]))", "SNS subscriptions left for a person"),
        (f"sum(rate(surgegate_sns_unsubscribed_total{{@}}[{RATE}]))", "SNS subscriptions ended"),
    ], "eps", width=8)

    row("Limits and refusals")
    chart("Refused by reason", [(f"sum by (reason) (rate(surgegate_events_rejected_total{{@}}[{RATE}]))", "{{reason}}")], "eps",
          "docs/refusals.md says what each means.", stack=True)
    chart("Refused before any event", [
        (f"sum(rate(surgegate_http_unauthenticated_requests_total{{@}}[{RATE}]))", "key missing or wrong"),
        (f"sum(rate(surgegate_http_connections_refused_total{{@}}[{RATE}]))", "connections refused"),
        (f"sum(rate(surgegate_http_lingering_refused_total{{@}}[{RATE}]))", "early answers not waited for"),
        (f"sum(rate(surgegate_http2_connections_cut_total{{@}}[{RATE}]))", "HTTP/2 connections cut"),
    ], "reqps")

    row("Redis")
    chart("Operations by result", [(f"sum by (result) (rate(surgegate_redis_operations_total{{@}}[{RATE}]))", "{{result}}")], "ops",
          stack=True, width=8)
    chart("Reachable", [("min by (instance) (surgegate_redis_up{@})", "{{instance}}")], width=8, top=1)
    chart("Limits held alone", [("max by (instance) (surgegate_rate_limit_fallback{@})", "{{instance}}")], width=8, top=1)
    chart("Round trip", [
        (f"histogram_quantile(0.99, sum by (le) (rate(surgegate_redis_round_trip_duration_seconds_bucket{{@}}[{RATE}])))", "p99"),
    ], "s", width=8)
    chart("Writes behind", [("max by (instance) (surgegate_redis_write_lag_seconds{@})", "{{instance}}")], "s", width=8)
    chart("Outages and what went on alone", [
        (f"sum by (instance) (increase(surgegate_redis_outages_total{{@}}[{RATE}]))", "{{instance}} outages"),
        (f"sum by (use) (rate(surgegate_redis_fallbacks_total{{@}}[{RATE}]))", "alone: {{use}}"),
    ], width=8)

    row("Process")
    chart("Processor", [(f"sum by (instance) (rate(process_cpu_seconds_total{{@}}[{RATE}]))", "{{instance}}")], "short", "Cores in use.",
          width=6)
    chart("Memory", [("sum by (instance) (process_resident_memory_bytes{@})", "{{instance}}")], "bytes", width=6)
    chart("Descriptors in use", [("process_open_fds{@} / process_max_fds{@}", "{{instance}}")], "percentunit", width=6)
    chart("Log lines left out", [
        (f"sum(rate(surgegate_log_lines_suppressed_total{{@}}[{RATE}]))", "by sampling"),
        (f"sum(rate(surgegate_log_lines_dropped_total{{@}}[{RATE}]))", "lost"),
    ], "eps", width=6)
    chart("Running since", [("time() - process_start_time_seconds{@}", "{{instance}}")], "s")
    chart("Certificate valid for", [("surgegate_tls_certificate_expiry_timestamp_seconds{@} - time()", "{{instance}}")], "s",
          "Of the ingest listener; nothing without TLS.")

    def variable(name: str, query: str) -> dict:
        return {"name": name, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name}, "refresh": 2,
                "includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}}

    return {
        "uid": "surgegate", "title": "Surgegate", "tags": ["surgegate"], "schemaVersion": 39, "version": 1, "editable": True,
        "description": "Generated by scripts/dashboard.py.", "time": {"from": "now-3h", "to": "now"}, "refresh": "30s",
        "timezone": "", "graphTooltip": 1,
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            variable("job", "label_values(surgegate_build_info, job)"),
            variable("instance", 'label_values(surgegate_build_info{job=~"$job"}, instance)'),
        ]},
        "annotations": {"list": [{
            "name": "Starts", "datasource": SOURCE, "enable": True, "iconColor": "blue",
            "expr": "changes(process_start_time_seconds{" + ME + "}[1m]) > 0", "titleFormat": "start of {{instance}}",
        }]},
        "panels": panels,
    }


def main() -> None:
    text = json.dumps(build(), indent=1) + "\n"
    if sys.argv[1:] == ["render"]:
        OUT.write_text(text)
    elif sys.argv[1:] == ["check"]:
        if not OUT.is_file() or OUT.read_text() != text:
            sys.exit("helm/surgegate/files/dashboard.json is old: scripts/dashboard.py render")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
