"""What --task=audit does: one of two audits."""

from audit.config import AuditConfig


def run(config: AuditConfig) -> int:
    """Audit spreadsheets or notebooks; see spreadsheets.py and notebooks.py."""
    if config.workbook is not None:
        from audit.spreadsheets import audit_spreadsheets

        return audit_spreadsheets(config)
    from audit.notebooks import audit_submissions

    return audit_submissions(config)
