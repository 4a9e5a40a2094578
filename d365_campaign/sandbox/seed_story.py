"""Rows under fixed keys that a demo tells about, in two acts.

First act: a purchase leads to an inactive contact. A mapping that keeps only active contacts leaves that one out, and
the purchase has to wait. Another contact's first name is longer than the 30 characters that Campaign takes.
Second act: the contact becomes active, and the purchase can go out.
"""

from .dataverse_state import DataverseState
from .dataverse_table import Table

WAITING_CONTACT = "5704a000-0000-4000-8000-000000000001"
WAITING_PURCHASE = "5704a000-0000-4000-8000-000000000002"
REFUSED_CONTACT = "5704a000-0000-4000-8000-000000000003"
STORY = {
    "waiting_contact": WAITING_CONTACT,
    "waiting_purchase": WAITING_PURCHASE,
    "refused_contact": REFUSED_CONTACT,
}
ACTIVE = {"statecode": 0, "statuscode": 1}
INACTIVE = {"statecode": 1, "statuscode": 2}


def seed_story(state: DataverseState) -> dict[str, str]:
    """The first act; keys by what each row is there for."""
    with state.transaction():
        waiting = {"firstname": "Ines", "lastname": "Carvalho", "emailaddress1": "ines.carvalho@example.com"}
        state.create("contact", {"contactid": WAITING_CONTACT, **waiting, **INACTIVE})
        state.create(
            "new_purchase",
            {
                "new_purchaseid": WAITING_PURCHASE,
                "new_name": "Espresso machine",
                "new_ordernumber": "SO-5704A000-0000",
                "new_contactid": WAITING_CONTACT,
                "new_amount": 349.0,
                "new_quantity": 1,
                "new_weight": 9.4,
                "new_purchasedon": "2025-11-03",
                "new_shippedat": "2025-11-05T10:15:00Z",
                "new_channel": 100000000,
            },
        )
        refused = {"firstname": "Wolfeschlegelsteinhausenbergerdorff", "lastname": "Keller"}
        state.create("contact", {"contactid": REFUSED_CONTACT, **refused, "emailaddress1": "w.keller@example.com"})
    return dict(STORY)


def activate_waiting_contact(state: DataverseState) -> str:
    """The second act: the contact whose purchase waits becomes active; its key."""
    state.update("contact", WAITING_CONTACT, ACTIVE)
    return WAITING_CONTACT


def ordinary_ids(table: Table) -> list[str]:
    """The keys of all rows but the story's: what happens at random never touches those."""
    if not any(row_id in table.rows for row_id in STORY.values()):
        return table.ids
    return [row_id for row_id in table.ids if row_id not in STORY.values()]
