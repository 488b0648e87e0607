"""What the Secret will hold, whose it is, and when credentials are lost."""

from __future__ import annotations

from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.labels import DATABASE_UID, KEYS, LABEL_CREDENTIALS, ROTATED_AT, SEQUENCE
from api.operation import Text
from api.reasons import Reason
from provisioner_job import secret
from provisioner_job.errors import Failure
from provisioner_job.secret import Present
from tests.provisioner_job.operations import SPEC, TARGET, call, spec, target, text

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DSN = text("dsn", "postgres://{{ .Result.username }}:{{ .Result.password | urlquery }}@{{ .Result.host }}/")
HOST = text("host", "{{ .Result.host }}")


def present(sequence: str = "0", *, uid: str = SPEC.database.uid, **changes: Any) -> Present:
    """A Secret of this Database, as an earlier request left it."""
    manifest: dict[str, Any] = {
        "metadata": {
            "uid": "aaaa",
            "resourceVersion": "7",
            "labels": {LABEL_CREDENTIALS: "true"},
            "annotations": {DATABASE_UID: uid, SEQUENCE: sequence},
        },
        "type": TARGET.type,
        "data": {"password": b64encode(b"old password").decode()},
    }
    return Present.parse(manifest | changes)


def composed(result: dict[str, str], kept: dict[str, bytes] | None = None, **how: Any) -> dict[str, bytes]:
    """The data for a result."""
    values = {"Result": result, **how.pop("more", {})}
    chosen = how.pop("to", TARGET)
    return dict(secret.compose(spec(**how), chosen, values, kept or {}).values)


def reason_of(failure: pytest.ExceptionInfo[Failure]) -> Reason:
    return failure.value.reason


class TestWhoseItIs:
    def test_no_secret_is_to_be_created(self) -> None:
        assert not secret.carries(None, SPEC, TARGET)

    def test_our_own_of_an_earlier_request_is_to_be_written(self) -> None:
        assert not secret.carries(present("1"), spec(sequence=2), TARGET)

    def test_our_own_of_this_very_request_is_done(self) -> None:
        assert secret.carries(present("2"), spec(sequence=2, attempt=3), TARGET)

    def test_a_sequence_that_somebody_scribbled_on_counts_as_none(self) -> None:
        for scribble in ("", "two", "-1", "²", "1.0"):
            assert not secret.carries(present(scribble), SPEC, TARGET)

    @pytest.mark.parametrize(
        "foreign",
        [
            present(uid="another database"),
            present(type="Opaque"),
            present(type="servicebinding.io/mysql"),
            present(metadata={"uid": "a", "resourceVersion": "1"}),
            present(metadata={"uid": "a", "resourceVersion": "1", "annotations": {DATABASE_UID: SPEC.database.uid}}),
        ],
    )
    def test_any_other_is_a_conflict_that_names_it_and_the_cure(self, foreign: Present) -> None:
        with pytest.raises(Failure) as failure:
            secret.carries(foreign, SPEC, TARGET)

        assert reason_of(failure) is Reason.SECRET_CONFLICT
        assert "shop/orders-credentials" in failure.value.message
        assert "rename" in failure.value.message

    def test_one_that_goes_away_with_an_earlier_database_of_the_name_is_waited_for(self) -> None:
        earlier = "the earlier database"
        left = present(uid=earlier)

        with pytest.raises(Failure) as failure:
            secret.carries(left._replace(owners=frozenset({earlier})), SPEC, TARGET)

        assert reason_of(failure) is Reason.KUBERNETES_UNAVAILABLE

    def test_one_that_an_earlier_database_retained_is_a_conflict_once_it_had_time_to_be_collected(self) -> None:
        retained = present(uid="the earlier database")._replace(owners=frozenset({"its Role"}))

        with pytest.raises(Failure) as failure:
            secret.carries(retained, spec(attempt=secret.COLLECTED_WITHIN + 1), TARGET)

        assert reason_of(failure) is Reason.SECRET_CONFLICT

    def test_one_that_is_taken_over_is_waited_for_while_it_may_be_collected(self) -> None:
        former = present(uid="the earlier database")._replace(owners=frozenset({"a Role that a restoration lost"}))
        target = TARGET._replace(former_uid="the earlier database")
        with pytest.raises(Failure) as failure:
            secret.carries(former, spec(attempt=secret.COLLECTED_WITHIN), target)

        assert reason_of(failure) is Reason.KUBERNETES_UNAVAILABLE
        assert not secret.carries(former, spec(attempt=secret.COLLECTED_WITHIN + 1, sequence=2), target)

    def test_a_later_request_is_not_overwritten(self) -> None:
        with pytest.raises(Failure) as failure:
            secret.carries(present("5"), spec(sequence=4), TARGET)

        assert reason_of(failure) is Reason.OPERATION_SUPERSEDED

    def test_an_immutable_one_is_refused_before_anything_happens(self) -> None:
        with pytest.raises(Failure) as failure:
            secret.carries(present(immutable=True), SPEC, TARGET)

        assert reason_of(failure) is Reason.SECRET_REFUSED


class TestPassThrough:
    def test_every_result_key_is_a_key(self) -> None:
        assert composed({"host": "h", "password": "p"}) == {"host": b"h", "password": b"p"}

    def test_an_empty_value_leaves_the_old_one(self) -> None:
        data = composed({"host": "", "password": ""}, {"host": b"old", "password": b"kept"})

        assert data == {"host": b"old", "password": b"kept"}

    def test_an_empty_value_without_an_old_one_is_empty(self) -> None:
        assert composed({"comment": "", "password": "p"}) == {"comment": b"", "password": b"p"}

    def test_a_credential_that_the_result_leaves_out_stays(self) -> None:
        assert composed({"host": "h"}, {"password": b"kept"}) == {"host": b"h", "password": b"kept"}

    @pytest.mark.parametrize("form", [(), (text("pw", "{{ .Result.password }}"), HOST)])
    def test_a_credential_that_was_returned_before_and_is_left_out_now_is_empty(self, form: tuple[Text, ...]) -> None:
        """As by a procedure that returns the row of the password only when it has just made it."""
        key, before = "pw" if form else "password", target(*form, returned=("password",))
        with pytest.raises(Failure) as failure:
            composed({"host": "h"}, to=before, recoverable=True)

        assert reason_of(failure) is Reason.CREDENTIALS_LOST
        assert composed({"host": "h"}, {key: b"kept"}, to=before) == {"host": b"h", key: b"kept"}

    def test_a_credential_that_the_result_never_has_is_not_missed(self) -> None:
        assert composed({"host": "h"}) == {"host": b"h"}

    def test_a_credential_that_the_result_leaves_out_and_that_somebody_took_out_is_lost(self) -> None:
        """That the procedure ever gave one only the Secret can tell."""
        metadata = {"uid": "a", "resourceVersion": "1", "annotations": {KEYS: "host,password"}}
        for data in ({"host": "aA=="}, {"host": "aA==", "password": ""}):
            with pytest.raises(Failure) as failure:
                composed({"host": "h"}, dict(present(metadata=metadata, data=data).kept), recoverable=True)

            assert reason_of(failure) is Reason.CREDENTIALS_LOST
            assert "no password" in failure.value.message

    def test_more_than_a_secret_can_hold_is_told_with_the_key_it_is_in(self) -> None:
        fits = {"password": "p", "big": "x" * (secret.MOST_BYTES - 1)}
        with pytest.raises(Failure) as failure:
            composed(fits | {"host": "h"})

        assert sum(map(len, composed(fits).values())) == secret.MOST_BYTES
        assert reason_of(failure) is Reason.RESULT_INVALID
        assert "1048577 bytes, 1048575 of them in key big" in failure.value.message

    def test_another_key_that_the_result_leaves_out_goes(self) -> None:
        assert composed({"password": "p"}, {"host": b"old"}) == {"password": b"p"}

    def test_a_key_that_no_secret_can_have_does_not_cost_the_others(self) -> None:
        result = {"user name": "u", "": "e", ".": "d", "..": "dd", "..x": "x", "pass/word": "s", "ok.key-1_A": "v"}
        data = secret.compose(SPEC, TARGET, {"Result": result}, {})

        assert data.values == {"ok.key-1_A": b"v"}
        assert data.skipped == ("user name", "", ".", "..", "..x", "pass/word")

    @given(
        st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(max_size=5)),
        st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.binary(max_size=5)),
    )
    def test_no_value_that_was_there_is_emptied(self, result: dict[str, str], kept: dict[str, bytes]) -> None:
        """Without declared credentials nothing fails, and whatever is empty in the result stays as it was."""
        data = composed(result, kept, to=target(credentials=()))

        assert all(data[key] == (value.encode() or kept.get(key, b"")) for key, value in result.items())
        assert set(data) == set(result)


class TestRotation:
    KEPT: ClassVar = {"username": b"u", "password": b"old"}
    ROTATE: ClassVar[dict[str, Any]] = {"type": "rotate", "calls": (call("rotate"), call("create"))}

    @pytest.mark.parametrize("result", [{"username": "u", "password": ""}, {"username": "u"}, {"password": ""}])
    def test_one_that_returns_no_new_credential_has_failed(self, result: dict[str, str]) -> None:
        with pytest.raises(Failure) as failure:
            composed(result, self.KEPT, **self.ROTATE)

        assert reason_of(failure) is Reason.RESULT_INVALID
        assert "rotate and create have run, but returned no new credential" in failure.value.message

    def test_one_that_returns_no_new_credential_has_failed_whatever_else_is_declared(self) -> None:
        both = target(credentials=("username", "password"))
        with pytest.raises(Failure):
            composed({"username": "u", "password": ""}, self.KEPT, to=both, **self.ROTATE)

        assert composed({"username": "u2", "password": ""}, self.KEPT, to=both, **self.ROTATE)["username"] == b"u2"

    def test_one_that_returns_the_same_credential_once_more_is_believed(self) -> None:
        assert composed({"username": "u", "password": "old"}, self.KEPT, **self.ROTATE) == self.KEPT

    def test_one_that_is_given_the_new_password_need_not_return_it(self) -> None:
        generated = {"Generated": {"password": "new"}}
        password = text("password", "{{ .Generated.password }}")
        data = composed({}, self.KEPT, to=target(password), more=generated, generated=True, **self.ROTATE)

        assert data == {"password": b"new"}

    def test_of_a_class_without_credentials_nothing_is_missed(self) -> None:
        assert composed({"host": "h"}, {"host": b"h"}, to=target(credentials=()), **self.ROTATE) == {"host": b"h"}
        assert composed({"pwd": "p"}, {"pwd": b"p"}, **self.ROTATE) == {"pwd": b"p"}


class TestFormat:
    def test_keys_are_rendered(self) -> None:
        data = composed({"username": "u", "password": "p/", "host": "h"}, to=target(DSN, HOST))

        assert data == {"dsn": b"postgres://u:p%2F@h/", "host": b"h"}

    def test_a_key_that_refers_to_an_empty_result_is_left_alone(self) -> None:
        data = composed(
            {"username": "u", "password": "", "host": "new"}, {"dsn": b"complete", "host": b"old"}, to=target(DSN, HOST)
        )

        assert data == {"dsn": b"complete", "host": b"new"}

    def test_without_an_old_value_and_without_a_credential_it_is_rendered_as_it_is(self) -> None:
        data = composed({"username": "", "password": "p", "host": "h"}, to=target(DSN))

        assert data == {"dsn": b"postgres://:p@h/"}

    def test_a_default_stands_in_for_an_empty_result(self) -> None:
        port = text("port", '{{ .Result.port | default "5432" }}')

        assert composed({"port": ""}, {"port": b"6432"}, to=target(port)) == {"port": b"5432"}

    def test_a_generated_password_is_put_in(self) -> None:
        password = text("password", "{{ .Generated.password }}")
        data = composed({}, to=target(password), more={"Generated": {"password": "made up"}}, generated=True)

        assert data == {"password": b"made up"}

    def test_a_key_that_the_result_lacks_is_an_error_that_says_what_is_there(self) -> None:
        with pytest.raises(Failure) as failure:
            composed({"hostname": "h", "password": "top secret"}, to=target(HOST))

        assert reason_of(failure) is Reason.TEMPLATE_INVALID
        assert "key host of the Secret" in failure.value.message
        assert ".Result.hostname" in failure.value.message
        assert "top secret" not in failure.value.message

    def test_an_empty_credential_that_no_key_uses_is_not_missed(self) -> None:
        assert composed({"password": "", "host": "h"}, to=target(HOST)) == {"host": b"h"}


class TestLostCredentials:
    def test_what_this_claim_cannot_have_created_is_somebody_elses(self) -> None:
        with pytest.raises(Failure) as failure:
            composed({"host": "h", "password": ""})

        assert reason_of(failure) is Reason.ALREADY_EXISTS
        assert failure.value.message.startswith("create_database returned no password")

    def test_of_a_claim_that_may_have_created_it_they_are_lost(self) -> None:
        with pytest.raises(Failure) as failure:
            composed({"password": ""}, recoverable=True)

        assert reason_of(failure) is Reason.CREDENTIALS_LOST

    def test_a_key_that_needs_them_is_enough(self) -> None:
        """The Secret holds the host, yet not the dsn: the dsn cannot be written without the password."""
        result = {"username": "u", "password": "", "host": "h"}

        with pytest.raises(Failure) as failure:
            composed(result, {"host": b"h"}, to=target(DSN, HOST), recoverable=True)

        assert reason_of(failure) is Reason.CREDENTIALS_LOST

    def test_a_missing_key_is_reported_before_a_lost_credential(self) -> None:
        """Whoever wrote the class has to correct it first."""
        with pytest.raises(Failure) as failure:
            composed({"username": "u", "password": ""}, to=target(DSN))

        assert reason_of(failure) is Reason.TEMPLATE_INVALID

    def test_one_that_somebody_emptied_is_lost_as_well(self) -> None:
        for kept in ({"dsn": b""}, {"dsn": b"", "host": b"h"}):
            with pytest.raises(Failure) as failure:
                composed({"username": "u", "password": "", "host": "h"}, kept, to=target(DSN, HOST), recoverable=True)

            assert reason_of(failure) is Reason.CREDENTIALS_LOST

    def test_other_credentials_can_be_declared(self) -> None:
        with pytest.raises(Failure) as failure:
            composed({"password": "", "token": ""}, to=target(credentials=("token",)))

        assert "no token" in failure.value.message


class TestMerging:
    def test_the_later_result_wins_unless_it_is_empty(self) -> None:
        merged = secret.merge({"password": "new", "host": "a"}, {"password": "", "host": "b", "port": ""})

        assert merged == {"password": "new", "host": "b", "port": ""}

    @given(*[st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]))] * 3)
    def test_the_order_of_merging_does_not_matter(
        self, a: dict[str, str], b: dict[str, str], c: dict[str, str]
    ) -> None:
        assert secret.merge(secret.merge(a, b), c) == secret.merge(a, secret.merge(b, c))


class TestManifest:
    def test_a_new_one_is_complete_and_owned(self) -> None:
        manifest = secret.manifest(SPEC, TARGET, None, {"password": b"p"}, NOW)

        assert manifest["type"] == "servicebinding.io/postgresql"
        assert {key: b64decode(value) for key, value in manifest["data"].items()} == {"password": b"p"}
        assert manifest["metadata"]["ownerReferences"] == [
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "Role",
                "name": TARGET.owner.name,
                "uid": TARGET.owner.uid,
            }
        ]
        assert "resourceVersion" not in manifest["metadata"]

    def test_what_a_job_writes_is_its_own_afterwards(self) -> None:
        manifest = secret.manifest(spec(sequence=4), TARGET, None, {}, NOW)
        read = Present.parse(manifest | {"metadata": manifest["metadata"] | {"uid": "u", "resourceVersion": "1"}})

        assert secret.carries(read, spec(sequence=4), TARGET)

    def test_it_overwrites_only_what_was_read(self) -> None:
        metadata = secret.manifest(SPEC, TARGET, present(), {}, NOW)["metadata"]

        assert (metadata["uid"], metadata["resourceVersion"]) == ("aaaa", "7")

    def test_what_exists_keeps_its_owner_or_none(self) -> None:
        """To change it, a Job would need the right to delete the Secret."""
        owner = {"uid": TARGET.owner.uid}
        owned = present(metadata={"uid": "a", "resourceVersion": "1", "ownerReferences": [owner]})

        assert "ownerReferences" in secret.manifest(SPEC, TARGET, owned, {}, NOW)["metadata"]
        assert "ownerReferences" not in secret.manifest(SPEC, TARGET, present(), {}, NOW)["metadata"]

    def test_it_notes_which_keys_it_has_a_value_for(self) -> None:
        """So that one that is gone later can be told from one that never had any."""
        data = {"password": b"p", "comment": b"", "host": b"h"}
        metadata = secret.manifest(SPEC, TARGET, None, data, NOW)["metadata"]

        assert metadata["annotations"][KEYS] == "host,password"
        assert KEYS not in secret.manifest(SPEC, TARGET, None, {"comment": b""}, NOW)["metadata"]["annotations"]

    def test_a_rotation_is_dated_and_the_date_stays(self) -> None:
        rotation = spec(type="rotate", calls=(call("rotate"), call("create")))
        rotated = secret.manifest(rotation, TARGET, present(), {}, NOW)["metadata"]["annotations"]
        old = present(metadata={"uid": "a", "resourceVersion": "1", "annotations": rotated})

        assert rotated[ROTATED_AT] == "2026-11-21T12:00:00.000Z"
        assert secret.manifest(SPEC, TARGET, old, {}, NOW)["metadata"]["annotations"][ROTATED_AT] == rotated[ROTATED_AT]


class TestTrial:
    def test_it_has_the_keys_of_the_format(self) -> None:
        assert set(secret.trial(target(DSN, HOST), None)) == {"dsn", "host"}

    def test_passing_through_it_has_the_keys_that_are_known(self) -> None:
        assert set(secret.trial(target(credentials=("token",)), present())) == {"token", "password"}

    def test_it_has_no_value(self) -> None:
        assert set(secret.trial(TARGET, present()).values()) == {secret.PLACEHOLDER}


def test_keys_with_a_credential_in_them_are_sensitive() -> None:
    made = text("made", "x{{ .Generated.password }}")

    assert secret.sensitive_keys(target(DSN, HOST, made)) == {"dsn", "made"}
    assert secret.sensitive_keys(target(credentials=("token",))) == {"token"}


def test_data_does_not_print() -> None:
    data = secret.compose(SPEC, TARGET, {"Result": {"password": "hunter2"}}, {})

    assert "hunter2" not in repr(data)
    assert "old password" not in repr(present())
