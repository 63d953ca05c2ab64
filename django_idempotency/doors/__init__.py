"""How a request comes to the engine: through a door, and under one policy.

A front (``decorators``, ``views``, ``middleware``) puts doors on views and leaves their options
there (:mod:`.marks`). A request goes down once::

    function or method                 view class: its callback, then its dispatch
            |                                 |
    decorators.enter                  classes.dispatched  <-- policies.policy_of
            |                                 |  the instance's handler is replaced
            |                           (authentication, permissions, throttles)
            |                                 |
            +-----------> classes.cover <-----+
                                |
                              calls           plain Django, REST framework, or a coroutine
                                |
                        engine.execution
"""
