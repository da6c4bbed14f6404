"""A published client of incident.io against a running Surgegate: its generated models read every member that the vendor
promises, and raise where one is missing. Arguments: the address, a key, ids of a severity and of the status that closes,
an alert source and its secret. Prints "fine" at the end."""

import sys

from incident_io import AuthenticatedClient
from incident_io.api.alert_events_v2 import alert_events_v2_create_http
from incident_io.api.custom_fields_v2 import custom_fields_v2_list
from incident_io.api.incident_statuses_v1 import incident_statuses_v1_list
from incident_io.api.incident_types_v1 import incident_types_v1_list
from incident_io.api.incidents_v1 import incidents_v1_create, incidents_v1_list, incidents_v1_show
from incident_io.api.incidents_v2 import (
    incidents_v2_create,
    incidents_v2_edit,
    incidents_v2_list,
    incidents_v2_show,
)
from incident_io.api.severities_v1 import severities_v1_list, severities_v1_show
from incident_io.api.utilities_v1 import utilities_v1_identity
from incident_io.models.alert_events_create_http_payload_v2 import AlertEventsCreateHTTPPayloadV2
from incident_io.models.error_response import ErrorResponse
from incident_io.models.incidents_create_payload_v1 import IncidentsCreatePayloadV1
from incident_io.models.incidents_create_payload_v2 import IncidentsCreatePayloadV2
from incident_io.models.incidents_edit_payload_v2 import IncidentsEditPayloadV2

base, key, severity, closed, source, secret = sys.argv[1:]
client = AuthenticatedClient(base_url=base, token=key, raise_on_unexpected_status=True)


def create(**more):
    body = {"idempotency_key": "k", "visibility": "public", "severity_id": severity, "name": "n", **more}
    return incidents_v2_create.sync(client=client, body=IncidentsCreatePayloadV2.from_dict(body))


first = create(summary="s").incident
assert first.severity.id == severity and first.incident_status.category == "live", first
assert create(summary="s").incident.id == first.id
shown = incidents_v2_show.sync(first.id, client=client).incident
assert (shown.reference, shown.created_at) == (first.reference, first.created_at), shown
listed = incidents_v2_list.sync(client=client)
assert [one.id for one in listed.incidents] == [first.id], listed
assert listed.pagination_meta.total_record_count == 1, listed

edit = {"notify_incident_channel": False, "incident": {"incident_status_id": closed}}
edited = incidents_v2_edit.sync(first.id, client=client, body=IncidentsEditPayloadV2.from_dict(edit)).incident
assert edited.id == first.id and edited.incident_status.category == "closed", edited
assert create().incident.incident_status.id == closed

v1 = {"idempotency_key": "k1", "visibility": "private", "status": "fixing", "severity_id": severity}
made = incidents_v1_create.sync(client=client, body=IncidentsCreatePayloadV1.from_dict(v1)).incident
assert made.status == "fixing" and made.visibility == "private", made
assert incidents_v1_show.sync(made.id, client=client).incident.id == made.id
assert len(incidents_v1_list.sync(client=client).incidents) == 2

assert severity in [one.id for one in severities_v1_list.sync(client=client).severities]
assert severities_v1_show.sync(severity, client=client).severity.id == severity
assert closed in [one.id for one in incident_statuses_v1_list.sync(client=client).incident_statuses]
assert incident_types_v1_list.sync(client=client).incident_types == []
assert custom_fields_v2_list.sync(client=client).custom_fields == []
assert utilities_v1_identity.sync(client=client).identity.name

refused = create(idempotency_key="other", severity_id="no such")
assert isinstance(refused, ErrorResponse) and refused.status == 422, refused
assert refused.errors[0].source.field == "severity_id", refused
stranger = AuthenticatedClient(base_url=base, token="nobody", raise_on_unexpected_status=True)
unknown = severities_v1_list.sync(client=stranger)
assert isinstance(unknown, ErrorResponse) and unknown.type_ == "authentication_error", unknown
missing = incidents_v2_show.sync("01ZZZZZZZZZZZZZZZZZZZZZZZZ", client=client)
assert isinstance(missing, ErrorResponse) and missing.status == 404, missing

alerts = AuthenticatedClient(base_url=base, token=secret, raise_on_unexpected_status=True)
for status in ["firing", "firing", "resolved"]:
    event = {"title": "t", "status": status, "deduplication_key": "d", "metadata": {"team": ["payments"]}}
    body = AlertEventsCreateHTTPPayloadV2.from_dict(event)
    taken = alert_events_v2_create_http.sync(source, client=alerts, body=body)
    assert (taken.status, taken.deduplication_key) == ("success", "d"), taken

print("fine")
