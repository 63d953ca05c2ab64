"""How a request comes to the engine: through a door, and under one policy.

A front (``decorators``, ``views``, ``middleware``) puts doors on views and leaves their options
there (:mod:`.marks`). A function or method is covered where it is called (``decorators.enter``). A
view class is covered by its dispatch (:mod:`.classes`), which replaces the handler on the instance,
so that authentication, permissions and throttles come first. Both end in :mod:`.calls`.
"""
