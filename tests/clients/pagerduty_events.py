"""The vendor's published client against the proxy: `pagerduty_events.py ADDRESS ROUTING_KEY`. Prints `ok`."""

import sys

import pagerduty

address, routing_key = sys.argv[1:]


def client(key):
    made = pagerduty.EventsApiV2Client(key)
    # Its setter takes https alone; the test speaks over loopback.
    made._url = address
    return made


events = client(routing_key)
key = events.trigger("disk full", "db-7", dedup_key="disk", severity="critical", custom_details={"load": 0.75})
assert key == "disk", key
assert events.trigger("disk full", "db-7", dedup_key="disk", severity="critical") == "disk"
assert events.acknowledge("disk") == "disk"
assert events.resolve("disk") == "disk"

made = events.trigger("no key", "db-8")
assert len(made) == 36, made
assert events.resolve(made) == made

# Without a time this release of the client fails by itself.
events.submit("deployed 1.4.2", source="ci", timestamp="2026-03-01T10:00:00Z", links=[{"href": "https://ci.example.com/2"}])

try:
    client("0" * 32).trigger("x", "y")
except pagerduty.Error as refused:
    assert refused.response.status_code == 400, refused.response
    assert refused.response.json()["errors"] == ["Invalid routing key"], refused.response.text
else:
    sys.exit("a wrong key was taken")
print("ok")
