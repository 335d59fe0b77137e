from tests.scenarios.caller import *
def test_a(talk, sim):
    c = talk(sim)
    assert c.say("one").reason == "no_previous_response"
    a = c.say("two")
    assert a.reason is None
    print(a)
