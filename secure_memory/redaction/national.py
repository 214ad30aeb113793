"""NATIONAL_ID: the identity numbers that countries give, by python-stdnum. Pure.

One entity, and its finding's validator says whose number it is (`stdnum.es.dni`): a policy's rule then holds for the next
country too. Their checksums are weak, so that a word or a key has to name them. Italy's needs
none: it has sixteen characters.

stdnum is imported when the first candidate needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from secure_memory.redaction.candidate import Candidate, Hit, Shape, phrases

_ANY = phrases(
    "national id", "national identity", "identity number", "identity card", "id number", "personal number", "citizen id"
)
NATIONAL: dict[str, tuple[str, ...]] = {
    "at.vnr": ("svnr", "sozialversicherungsnummer", "versicherungsnummer"),
    "au.tfn": ("tfn", "tax file", "tax file number"),
    "be.nn": ("rijksregisternummer", "registre national", "national register", "numéro national", "insz", "niss"),
    "br.cpf": ("cpf",),
    "ca.sin": ("sin", "social insurance", "social insurance number"),
    "ch.ssn": ("ahv", "avs", "ahv nr", "ahv nummer", "sozialversicherungsnummer"),
    "cn.ric": ("resident identity", "身份证", "身份证号"),
    "cz.rc": ("rodné číslo", "rodne cislo", "birth number"),
    "de.idnr": (
        "steuer id",
        "steueridentifikationsnummer",
        "idnr",
        "steuer idnr",
        "steuerliche identifikationsnummer",
        "tax id",
    ),
    "dk.cpr": ("cpr", "cpr nummer", "cpr nr", "personnummer"),
    "es.dni": ("dni", "nif", "documento nacional"),
    "es.nie": ("nie", "nif", "número de identidad de extranjero"),
    "fi.hetu": ("hetu", "henkilötunnus", "henkilotunnus"),
    "fr.nir": (
        "nir",
        "insee",
        "sécurité sociale",
        "securite sociale",
        "numéro de sécurité sociale",
        "numero de securite sociale",
    ),
    "ie.pps": ("pps", "ppsn", "pps number"),
    "in_.aadhaar": ("aadhaar", "aadhar", "uidai", "आधार"),
    "in_.pan": ("pan", "permanent account number", "pan card"),
    "it.codicefiscale": ("codice fiscale", "cod fisc", "cf", "fiscal code"),
    "nl.bsn": ("bsn", "burgerservicenummer", "sofinummer"),
    "no.fodselsnummer": ("fødselsnummer", "fodselsnummer", "personnummer"),
    "pl.pesel": ("pesel",),
    "pt.cc": ("cartão de cidadão", "cartao de cidadao", "bilhete de identidade"),
    "ro.cnp": ("cnp", "cod numeric personal"),
    "se.personnummer": ("personnummer", "samordningsnummer", "swedish personal number"),
    "tr.tckimlik": ("tc kimlik", "kimlik no", "kimlik", "tckn"),
    "za.idnr": ("south african id", "sa id", "rsa id"),
}
"""The numbers that are looked for, by their module in python-stdnum, and the words that name them."""
_BY_WORD: dict[str, list[str]] = {}
"""Of the words above, those that are one word: whose numbers they name."""
_PHRASES: dict[str, list[str]] = {phrase: list(NATIONAL) for phrase in _ANY}
"""And those that are several; what says only that it is an identity number names all of them."""
for _module, _words in NATIONAL.items():
    for _word in _words:
        if " " in _word:
            _PHRASES.setdefault(f" {_word} ", []).append(_module)
        else:
            _BY_WORD.setdefault(_word, []).append(_module)
_NAMES = tuple(sorted({*(phrase.strip() for phrase in _ANY), *(word for words in NATIONAL.values() for word in words)}))
_SHAPES = {
    "at.vnr": r"\d{10}", "au.tfn": r"\d{8,9}", "be.nn": r"\d{11}", "br.cpf": r"\d{11}", "ca.sin": r"\d{9}",
    "ch.ssn": r"756\d{10}", "cn.ric": r"\d{17}[\dX]", "cz.rc": r"\d{9,10}", "de.idnr": r"\d{11}", "dk.cpr": r"\d{10}",
    "es.dni": r"\d{8}[A-Z]", "es.nie": r"[XYZ]\d{7}[A-Z]", "fi.hetu": r"\d{6}[\-+A-FU-Y]?\d{3}[0-9A-Y]",
    "fr.nir": r"[12]\d{4}[\dAB]\d{9}", "ie.pps": r"\d{7}[A-W][A-IW]?", "in_.aadhaar": r"\d{12}",
    "in_.pan": r"[A-Z]{5}\d{4}[A-Z]", "it.codicefiscale": r"[A-Z]{6}[0-9A-Z]{10}", "nl.bsn": r"\d{8,9}",
    "no.fodselsnummer": r"\d{11}", "pl.pesel": r"\d{11}", "pt.cc": r"\d{9}[A-Z\d]{2}\d", "ro.cnp": r"\d{13}",
    "se.personnummer": r"\d{10}|\d{12}", "tr.tckimlik": r"\d{11}", "za.idnr": r"\d{13}",
}  # fmt: skip
"""How each looks without its separators: asked before stdnum is imported."""
_COMPILED = {module: re.compile(f"(?:{shape})\\Z", re.ASCII) for module, shape in _SHAPES.items()}


def _national(seen: Candidate) -> Iterator[Hit]:
    start, end = seen.match.span()
    near = seen.near(start, end)
    named = {module: word for word in near.split() for module in _BY_WORD.get(word, ()) if f" {word} " in near}
    for phrase, modules in _PHRASES.items():
        if phrase in near:
            named.update(dict.fromkeys(modules, phrase.strip()))
    text = seen.match.group().rstrip(" -./+") if named else ""
    while len(text) > 6:
        end = start + len(text)
        hit = _national_id(seen, start, end, named) if seen.apart(start, end) else None
        if hit:
            yield hit
            return
        text = text[: max(text.rfind(" "), 0)].rstrip(" -./+")  # what follows may be another number


def _national_id(seen: Candidate, start: int, end: int, named: dict[str, str]) -> Hit | None:
    """The number of one of the countries that are named, and the word that names it."""
    text = seen.whole[start:end]
    compact = re.sub(r"[ .\-/+]", "", text).upper()
    for module, context in named.items():
        written = text.upper() if module in _SEPARATOR_COUNTS else compact
        shaped = _COMPILED[module].match(compact) or _COMPILED[module].match(written)
        if shaped and import_module(f"stdnum.{module}").is_valid(written):
            return Hit(start, end, 0.95, f"stdnum.{module.replace('_', '')}", context)
    return None


_SEPARATOR_COUNTS = ("fi.hetu", "se.personnummer")


def _codice_fiscale(seen: Candidate) -> Iterator[Hit]:
    """Sixteen characters with a date and a check letter inside: the one that needs no word beside it."""
    from stdnum.it import codicefiscale

    start, end = seen.match.span()
    if seen.apart(start, end) and codicefiscale.is_valid(seen.match.group()):
        context = seen.context(start, end, phrases(*NATIONAL["it.codicefiscale"]))
        yield Hit(start, end, 0.95, "stdnum.it.codicefiscale", context)


SHAPES = (
    Shape("NATIONAL_ID", r"(?:[A-Za-z]{1,6}|[XYZxyz]-)?\d[A-Za-z0-9 .\-/+]{6,22}", _national, digits=4, words=_NAMES),
    Shape("NATIONAL_ID", r"[A-Z]{6}[0-9L-V]{2}[A-EHLMPR-T][0-9L-V]{2}[A-Z][0-9L-V]{3}[A-Z]", _codice_fiscale, digits=1),
)
