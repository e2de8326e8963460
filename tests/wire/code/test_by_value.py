import json
import json.decoder

import cloudpickle

from handoff_actors.wire.code.by_value import is_any_sent_by_value, sent_by_value
from handoff_actors.wire.payload import encode_code


def by_value() -> set[str]:
    registered: set[str] = cloudpickle.list_registry_pickle_by_value()
    return registered


def test_code_of_a_module_and_of_those_within_it_goes_by_value_meanwhile() -> None:
    with sent_by_value([json]):
        _, meanwhile, _ = encode_code(json.decoder.JSONDecoder)

    assert not meanwhile
    assert encode_code(json.decoder.JSONDecoder)[1]


def test_modules_that_the_user_has_registered_stay_so() -> None:
    cloudpickle.register_pickle_by_value(json)

    with sent_by_value([json]), sent_by_value([json]):
        pass

    assert by_value() == {"json"}
    cloudpickle.unregister_pickle_by_value(json)


def test_module_that_two_send_is_registered_until_both_have() -> None:
    with sent_by_value([json]):
        with sent_by_value([json]):
            pass
        assert by_value() == {"json"}

    assert by_value() == set()


def test_modules_sent_by_value_are_known() -> None:
    assert not is_any_sent_by_value()
    assert is_any_sent_by_value([json])
    with sent_by_value([json]):
        assert is_any_sent_by_value()
