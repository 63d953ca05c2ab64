"""Safe retries: a repeated request gets the first reply, and its effect happens once.

Add ``"django_idempotency"`` to ``INSTALLED_APPS``, migrate, and protect a view::

    from django_idempotency.decorators import idempotent

    @idempotent
    def create_order(request):
        order = Order.objects.create(cake=request.POST["cake"])
        return JsonResponse({"id": order.pk}, status=201)

A client that sends ``Idempotency-Key: <a key of its own>`` may now repeat the request as often as
it likes. Class-based views of Django REST framework take
:class:`django_idempotency.rest_framework.IdempotencyMixin` instead.
"""

__version__ = "0.1.0"
