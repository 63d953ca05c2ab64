"""The tables: the record of each key, its steps and its envelope, and what was counted.

The record is the source of truth: whose the key is, what was asked, how far it came, and what was
answered. Its status changes only by the guarded statements of :mod:`.storage`. Its steps are the
checkpoints of an operation of several transactions; its envelope is the request without its
credentials, for the completer.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    """How far the operation of a key came."""

    #: An attempt has the claim; the row lock or the lease tells whether its owner still lives.
    IN_PROGRESS = "in_progress", _("in progress")
    #: The view's writes and its response are committed; the response is replayed.
    COMPLETED = "completed", _("completed")
    #: The last attempt left no outcome; the next request runs.
    RELEASED = "released", _("released")


class UtcNow(Now):
    """The database's clock; Django's is in the server's time zone on MySQL and MariaDB."""

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Source: "Date and Time Functions" of either manual."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """With as many digits as Django reads and writes, so that equal times compare as equal."""
        template = "STRFTIME('%%%%Y-%%%%m-%%%%d %%%%H:%%%%M:%%%%f000', 'now')"
        return self.as_sql(compiler, connection, template=template, **context)


class RecordQuerySet(models.QuerySet["IdempotencyRecord"]):
    """Questions to ask about records, by the database's clock."""

    def expired(self) -> "RecordQuerySet":
        """Finished records that have expired, and may be deleted."""
        return self.exclude(status=Status.IN_PROGRESS).filter(expires_at__lte=UtcNow())

    def stale(self) -> "RecordQuerySet":
        """Records in progress for longer than their lease; not those that were only accepted."""
        running = self.filter(status=Status.IN_PROGRESS, attempts__gt=0)
        return running.filter(lease_expires_at__lte=UtcNow())


_IS_ANSWERED = Q(
    response_status__isnull=False, response_headers__isnull=False, completed_at__isnull=False
)
_IS_UNANSWERED = Q(
    response_status__isnull=True,
    response_headers__isnull=True,
    response_body__isnull=True,
    completed_at__isnull=True,
)


class IdempotencyRecord(models.Model):
    """One key of one caller."""

    id = models.UUIDField(_("id"), primary_key=True, editable=False)
    scope = models.CharField(_("scope"), max_length=255)
    key = models.CharField(_("key"), max_length=255)
    fingerprint = models.BinaryField(_("fingerprint"), max_length=32)
    status = models.CharField(_("status"), max_length=11, choices=Status)
    token = models.UUIDField(_("owner token"), help_text=_("Fences off an owner that came late."))
    attempts = models.PositiveIntegerField(
        _("attempts"), help_text=_("Attempts that run, died, raised or answered 5xx.")
    )
    atomic = models.BooleanField(
        _("atomic"), help_text=_("Whether a row lock vouches for the claim; else the lease does.")
    )
    method = models.CharField(_("method"), max_length=16)
    path = models.CharField(_("path"), max_length=255)
    claimed_at = models.DateTimeField(_("claimed at"))
    lease_expires_at = models.DateTimeField(_("lease expires at"))
    response_status = models.PositiveSmallIntegerField(_("response status"), null=True)
    response_headers = models.JSONField(_("response headers"), null=True)
    response_codec = models.CharField(
        _("response codec"), max_length=32, help_text=_("What the stored body was encoded with.")
    )
    response_body = models.BinaryField(
        _("response body"), null=True, help_text=_("Empty in a completed record: it was too large.")
    )
    error = models.CharField(
        _("error"), max_length=255, help_text=_("What ended the last failed attempt.")
    )
    created_at = models.DateTimeField(_("created at"))
    completed_at = models.DateTimeField(_("completed at"), null=True)
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects: ClassVar[RecordQuerySet] = RecordQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        permissions: ClassVar = [
            ("view_response", _("Can view stored responses")),
            ("expire", _("Can expire idempotency records")),
            ("release", _("Can release stuck idempotency records")),
            ("complete", _("Can complete idempotent operations")),
        ]
        constraints: ClassVar = [
            models.CheckConstraint(
                name="idempotency_record_status", condition=Q(status__in=Status.values)
            ),
            models.CheckConstraint(
                name="idempotency_record_answer",
                condition=(Q(status=Status.COMPLETED) & _IS_ANSWERED)
                | (~Q(status=Status.COMPLETED) & _IS_UNANSWERED),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.key} ({self.scope})"

    @property
    def is_erased(self) -> bool:
        """Whether nothing is left but the fact that the key was used."""
        return len(self.fingerprint) == 0


class IdempotencyCount(models.Model):
    """How often something happened in one minute, as one process counted it."""

    minute = models.DateTimeField(_("minute"), db_index=True)
    event = models.CharField(_("event"), max_length=16)
    count = models.PositiveIntegerField(_("count"))

    class Meta:
        verbose_name = _("idempotency count")
        # The name of its only page in the admin.
        verbose_name_plural = _("idempotency dashboard")

    def __str__(self) -> str:
        return f"{self.minute:%Y-%m-%d %H:%M} {self.event}: {self.count}"


class StepKind(models.TextChoices):
    """What a step is to the database."""

    #: Rows and checkpoint in one transaction: exactly once.
    STEP = "step", _("step")
    #: Something outside of the database.
    CALL = "call", _("call")
    #: What takes a done step back.
    UNDO = "undo", _("undo")


class StepStatus(models.TextChoices):
    """How far a step came."""

    #: An at-most-once call may have begun; when its attempt is over, its outcome is unknown.
    STARTED = "started", _("started")
    #: Its result is recorded; it never runs again.
    COMPLETED = "completed", _("completed")
    #: It raised, and will be tried again.
    RETRYING = "retrying", _("retrying")
    #: It raised what its view calls fatal; it never runs again.
    FAILED = "failed", _("failed")
    #: An at-most-once call whose attempt ended in it.
    UNKNOWN = "unknown", _("unknown")


if TYPE_CHECKING:
    _Text = models.CharField[str, str]
else:
    _Text = models.CharField


class ExactCharField(_Text):
    """Text that is compared byte by byte; MySQL and MariaDB would take ``A`` and ``a`` as equal."""

    def db_type(self, connection: Any) -> str | None:
        """The column's type, on MySQL and MariaDB with a binary collation."""
        column: str | None = super().db_type(connection)
        binary = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        return column and column + (binary if connection.vendor == "mysql" else "")


class IdempotencyStep(models.Model):
    """One checkpoint of one operation."""

    # No constraint in the database: it would look for steps of each record that a clean-up deletes.
    # Steps are written and deleted under the lock of their record, so they need none.
    record = models.ForeignKey(
        IdempotencyRecord,
        models.CASCADE,
        verbose_name=_("record"),
        related_name="steps",
        db_constraint=False,
        db_index=False,
    )
    name = ExactCharField(_("name"), max_length=255)
    kind = models.CharField(_("kind"), max_length=4, choices=StepKind)
    status = models.CharField(_("status"), max_length=9, choices=StepStatus)
    attempt = models.PositiveIntegerField(
        _("attempts"), help_text=_("How often it was run, in all attempts of its operation.")
    )
    input_digest = models.BinaryField(_("input digest"), max_length=32)
    output = models.BinaryField(_("output"), null=True, help_text=_("JSON, or encoded JSON."))
    codec = models.CharField(
        _("codec"), max_length=32, help_text=_("What the output was encoded with.")
    )
    error = models.CharField(_("error"), max_length=255, help_text=_("What it raised last."))
    token = models.UUIDField(_("owner token"), help_text=_("Of the attempt that wrote it."))
    started_at = models.DateTimeField(_("started at"))
    completed_at = models.DateTimeField(_("completed at"), null=True)

    class Meta:
        verbose_name = _("idempotency step")
        verbose_name_plural = _("idempotency steps")
        constraints: ClassVar = [
            models.UniqueConstraint(name="idempotency_step_name", fields=["record", "name"]),
            models.CheckConstraint(
                name="idempotency_step_status", condition=Q(status__in=StepStatus.values)
            ),
        ]

    def __str__(self) -> str:
        return self.name


class IdempotencyEnvelope(models.Model):
    """The request of an operation that is not finished, for the completer.

    It holds no credentials, and is deleted in the transaction that settles its record.
    """

    record = models.OneToOneField(
        IdempotencyRecord,
        models.CASCADE,
        verbose_name=_("record"),
        related_name="envelope",
        primary_key=True,
        db_constraint=False,
    )
    user_id = models.CharField(
        _("user"), max_length=255, help_text=_("Primary key of the caller; empty without one.")
    )
    request = models.BinaryField(
        _("request"), help_text=_("What a server hands on of it, and its body; or both encoded.")
    )
    codec = models.CharField(
        _("codec"), max_length=32, help_text=_("What the request was encoded with.")
    )
    tries = models.PositiveIntegerField(
        _("tries"), help_text=_("How often a completer has taken it up.")
    )
    error = models.CharField(_("error"), max_length=255, help_text=_("How its last try ended."))
    created_at = models.DateTimeField(_("created at"))
    due_at = models.DateTimeField(
        _("due at"), null=True, db_index=True, help_text=_("Empty: no completer tries it again.")
    )

    class Meta:
        verbose_name = _("idempotency envelope")
        verbose_name_plural = _("idempotency envelopes")

    def __str__(self) -> str:
        return str(self.pk)
