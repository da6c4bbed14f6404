#!/usr/bin/env python3
"""The vendor's published client (PyPI: opsgenie-sdk) against a running Surgegate: create, repeat, acknowledge, close.

Called by tests/it/opsgenie.rs with the address and the key; ends with `ok` or with what was wrong.
"""
import sys

import opsgenie_sdk

host, key = sys.argv[1:3]
configuration = opsgenie_sdk.Configuration()
configuration.host = host
configuration.api_key["Authorization"] = key
api = opsgenie_sdk.AlertApi(opsgenie_sdk.ApiClient(configuration))


def result(answer):
    """What came of a write: the client polls the request, with its own retries."""
    assert answer.result == "Request will be processed", answer
    status = api.get_request_status(answer.request_id).data
    return status


def create():
    payload = opsgenie_sdk.CreateAlertPayload(
        message="disk full on db-7",
        alias="db-7/disk %2F ü",
        description="99 %",
        responders=[{"name": "storage", "type": "team"}],
        tags=["prod"],
        details={"free": "1%"},
        entity="mysql",
        priority="P2",
    )
    return result(api.create_alert(create_alert_payload=payload))


alias = "db-7/disk %2F ü"
first = create()
assert first.is_success and first.action == "Create" and first.alias == alias, first
again = create()
assert again.is_success and again.alert_id == first.alert_id, again

alert = api.get_alert(identifier=alias, identifier_type="alias").data
assert (alert.id, alert.message, alert.count, alert.priority) == (first.alert_id, "disk full on db-7", 2, "P2"), alert
assert (alert.tags, alert.details, alert.entity, alert.status) == (["prod"], {"free": "1%"}, "mysql", "open"), alert
assert api.get_alert(identifier=first.alert_id).data.alias == alias
assert [row.id for row in api.list_alerts().data] == [first.alert_id]

note = opsgenie_sdk.AddNoteToAlertPayload(note="seen", user="u")
assert result(api.add_note(identifier=first.alert_id, add_note_to_alert_payload=note)).is_success
acknowledged = result(api.acknowledge_alert(identifier=alias, identifier_type="alias"))
assert acknowledged.is_success and acknowledged.alert_id == first.alert_id, acknowledged
assert api.get_alert(identifier=first.alert_id).data.acknowledged is True
close = opsgenie_sdk.CloseAlertPayload(user="u", note="done", source="client")
closed = result(api.close_alert(identifier=alias, identifier_type="alias", close_alert_payload=close))
assert closed.is_success and closed.action == "Close", closed
assert api.get_alert(identifier=first.alert_id).data.status == "closed"

unknown = result(api.close_alert(identifier="never-seen", identifier_type="alias"))
assert unknown.is_success is False and unknown.status == "Alert does not exist", unknown



def refused(ask, status):
    """The client tells of refusals by exceptions of several classes, which name the status."""
    try:
        ask()
    except Exception as error:  # pylint: disable=broad-except
        assert str(status) in str(error), error
        return
    raise SystemExit(f"no {status}")


refused(lambda: api.get_alert(identifier="nobody"), 404)
blank = opsgenie_sdk.CreateAlertPayload(message=" ")
refused(lambda: api.create_alert(create_alert_payload=blank), 422)
configuration.api_key["Authorization"] = "nobody"
refused(api.list_alerts, 401)
print("ok")
