"""Legal terms: areas of law, the clause list of CUAD, requirements of four regulations, the form of answers.

The clause list is that of the Contract Understanding Atticus Dataset (The Atticus Project, CC BY 4.0).
"""

from __future__ import annotations

from typing import Any, Literal

Task = Literal["review", "risk", "compliance", "clauses"]
Area = Literal[
    "contract", "employment", "intellectual_property", "privacy", "corporate", "real_estate", "tax",
    "consumer", "competition", "litigation", "criminal", "family", "immigration", "administrative",
]  # fmt: skip

NOTE = (
    "This is an automated analysis, not legal advice. Let a qualified lawyer check it before relying on it."
)

CLAUSES = (
    "Document Name", "Parties", "Agreement Date", "Effective Date", "Expiration Date",
    "Renewal Term", "Notice Period To Terminate Renewal", "Governing Law", "Most Favored Nation",
    "Non-Compete", "Exclusivity", "No-Solicit Of Customers", "Competitive Restriction Exception",
    "No-Solicit Of Employees", "Non-Disparagement", "Termination For Convenience", "Rofr/Rofo/Rofn",
    "Change Of Control", "Anti-Assignment", "Revenue/Profit Sharing", "Price Restrictions",
    "Minimum Commitment", "Volume Restriction", "Ip Ownership Assignment", "Joint Ip Ownership",
    "License Grant", "Non-Transferable License", "Affiliate License-Licensor",
    "Affiliate License-Licensee", "Unlimited/All-You-Can-Eat-License",
    "Irrevocable Or Perpetual License", "Source Code Escrow", "Post-Termination Services",
    "Audit Rights", "Uncapped Liability", "Cap On Liability", "Liquidated Damages",
    "Warranty Duration", "Insurance", "Covenant Not To Sue", "Third Party Beneficiary",
)  # fmt: skip

REGULATIONS = {
    "GDPR": "lawful basis (Art. 6) and consent (Art. 7); special categories (Art. 9); information (Art. "
    "12-14); rights of data subjects (Art. 15-22); processors bound by contract (Art. 28); "
    "security (Art. 32); notice of breaches within 72 hours (Art. 33-34); impact assessment (Art. "
    "35); transfers to third countries (Art. 44-49); storage limitation (Art. 5(1)(e))",
    "HIPAA": "permitted uses and disclosures (45 CFR 164.502, 164.506, 164.508); minimum necessary "
    "(164.502(b)); business associate contracts (164.504(e)); notice of privacy practices "
    "(164.520); access and amendment (164.524, 164.526); administrative, physical and technical "
    "safeguards (164.308-164.312); breach notification (164.400-164.414)",
    "CCPA": "notice at collection (Cal. Civ. Code 1798.100); rights to know (1798.110, 1798.115), delete "
    "(1798.105), correct (1798.106), opt out of sale or sharing (1798.120) and limit sensitive "
    "data (1798.121); no retaliation (1798.125); service provider contracts (1798.100(d), "
    "1798.140(ag)); reasonable security (1798.150)",
    "SOX": "certification by officers (sec. 302, 906); internal control over financial reporting (sec. "
    "404); real-time disclosure (sec. 409); auditor independence (sec. 201-206); retention of "
    "audit records (sec. 103, 802); whistleblower protection (sec. 806); no loans to executives "
    "(sec. 402)",
}

_LEVEL = {"enum": ["low", "medium", "high"]}
_TEXT = {"type": "string"}
_FIELDS: dict[Task, dict[str, Any]] = {
    "review": {"clause": _TEXT, "quote": _TEXT, "issue": _TEXT, "recommendation": _TEXT},
    "risk": {
        "clause": _TEXT, "quote": _TEXT, "risk": _TEXT, "likelihood": _LEVEL, "severity": _LEVEL,
        "recommendation": _TEXT,
    },
    "compliance": {
        "requirement": _TEXT, "quote": _TEXT, "status": {"enum": ["met", "partly", "not_met", "unclear"]},
        "explanation": _TEXT,
    },
    "clauses": {"clause": {"enum": list(CLAUSES)}, "quote": _TEXT},
}  # fmt: skip


def item_schema(task: Task) -> dict[str, Any]:
    """The JSON schema of an answer: `items`, each with the task's fields and a `quote` of the document."""
    fields = _FIELDS[task]
    item = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": item}},
        "required": ["items"],
        "additionalProperties": False,
    }
