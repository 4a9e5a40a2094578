"""Contacts made to break things: quotes, emoji, keywords, empty against missing, limits, far dates.

Campaign's limits: first name 30, last name 50, salutation 20, mobile phone 32, e-mail 128 ("DataModel Profile").
"""

from typing import Any

HOSTILE_CONTACTS: tuple[dict[str, Any], ...] = (
    {"firstname": "O'Neil", "lastname": "\"Double\" 'Single'", "emailaddress1": "o'neil@example.com"},
    {"firstname": "Robert'); DROP TABLE contact;--", "lastname": "Tables", "emailaddress1": "bobby@example.com"},
    {"firstname": "SELECT", "lastname": "FROM", "emailaddress1": "where@example.com"},
    {"firstname": "NULL", "lastname": "null", "emailaddress1": "null@example.com"},
    {"firstname": "True", "lastname": "None", "emailaddress1": "none@example.com"},
    {"firstname": "👩‍👩‍👧‍👦", "lastname": "Émoji 🎉", "emailaddress1": "emoji@example.com"},
    {"firstname": "e\u0301", "lastname": "\u00e9", "emailaddress1": "combining@example.com"},
    {"firstname": "محمد", "lastname": "李小龍", "emailaddress1": "scripts@example.com"},
    {"firstname": "", "lastname": "Empty first name", "emailaddress1": ""},
    {"firstname": None, "lastname": "No first name", "emailaddress1": None},
    {"firstname": "   ", "lastname": " padded ", "emailaddress1": " spaces@example.com "},
    {"firstname": "Tab\there", "lastname": "Line\nbreak", "emailaddress1": "control@example.com"},
    {"firstname": "Comma, Semi;colon", "lastname": "Back\\slash", "emailaddress1": "csv@example.com"},
    {"firstname": "=1+1", "lastname": "@formula", "emailaddress1": "formula@example.com"},
    {"firstname": "<b>Bold</b>", "lastname": "&amp;", "emailaddress1": "markup@example.com"},
    {"firstname": "%41", "lastname": "{{ braces }} ${x}", "emailaddress1": "plus+tag@example.com"},
    {"firstname": "F" * 30, "lastname": "L" * 50, "salutation": "S" * 20, "emailaddress1": "at.limit@example.com"},
    {"firstname": "F" * 31, "lastname": "Over first name", "emailaddress1": "over.first@example.com"},
    {"firstname": "Over salutation", "lastname": "Limit", "salutation": "S" * 21, "emailaddress1": "s@example.com"},
    {"firstname": "Ünïcödé" * 5, "lastname": "Over in characters", "emailaddress1": "over.unicode@example.com"},
    {"firstname": "Over", "lastname": "Mobile", "mobilephone": "+" + "1" * 33, "emailaddress1": "m@example.com"},
    {"firstname": "MIXED", "lastname": "mcDONALD-smith", "emailaddress1": "Mixed.CASE@Example.COM"},
    {"firstname": "No at sign", "lastname": "Email", "emailaddress1": "not-an-email"},
    {"firstname": "Early", "lastname": "Born", "birthdate": "1753-01-01", "emailaddress1": "early@example.com"},
    {"firstname": "Late", "lastname": "Born", "birthdate": "9999-12-31", "emailaddress1": "late@example.com"},
    {"firstname": "Leap", "lastname": "Day", "birthdate": "2000-02-29", "emailaddress1": "leap@example.com"},
    {"firstname": "Rich", "lastname": "Limit", "creditlimit": 100000000000.0, "numberofchildren": 1000000000},
    {"firstname": "Negative", "lastname": "Limit", "creditlimit": -0.01, "numberofchildren": -1},
    {"firstname": "Long", "lastname": "Note", "description": "line one\r\nline two\n" + "x" * 1900},
    {"firstname": "Only a first name", "lastname": None, "emailaddress1": "same@example.com"},
    {"firstname": "Same e-mail", "lastname": "Twice", "emailaddress1": "same@example.com"},
    {
        "firstname": "Every",
        "lastname": "Opt-out",
        "donotemail": True,
        "donotbulkemail": True,
        "donotphone": True,
        "donotfax": True,
        "donotpostalmail": True,
        "donotbulkpostalmail": True,
        "donotsendmm": True,
    },
    {"firstname": "Inactive", "lastname": "Contact", "statecode": 1, "statuscode": 2},
)
