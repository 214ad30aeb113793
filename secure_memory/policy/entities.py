"""The names of personal data that rules can be about: what the built-in detector finds, and what Presidio adds. Pure.

`redaction.entities` says how each is found; a test holds the two lists together.
"""

from __future__ import annotations

BUILT_IN = frozenset(
    {
        *("CARD_NUMBER", "CARD_CVV", "CARD_TRACK", "IBAN", "BIC", "US_BANK_ACCOUNT", "CRYPTO_ADDRESS"),
        *("EMAIL", "PHONE", "IP", "MAC", "URL_WITH_CREDENTIALS", "SECRET"),
        *("US_SSN", "US_ITIN", "US_PASSPORT", "US_DRIVER_LICENSE", "UK_NHS", "UK_NINO", "NATIONAL_ID"),
        *("DATE_OF_BIRTH", "MEDICAL_RECORD_NUMBER"),
    }
)
PRESIDIO = frozenset({"PERSON", "LOCATION", "ORGANIZATION"})
