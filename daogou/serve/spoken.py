"""Events as clients wrote them."""

from daogou.serve.events import Event
from daogou.serve.tables import Document
from daogou.serve.values import iso


def event_document(event: Event) -> Document:
    """An event as a client wrote it."""
    return {
        "event_id": event.event_id,
        "kind": event.kind,
        "user": event.user_id,
        "session": event.session_id,
        "item": event.item_id,
        "time": iso(event.time_us),
        "request_id": event.request_id,
        "position": event.position,
        "value": event.value,
        "fields": dict(event.fields),
    }
