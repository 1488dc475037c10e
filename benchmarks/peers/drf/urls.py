from django.http import HttpResponse
from django.urls import include, path
from items.models import Item
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet


class ItemSerializer(ModelSerializer):
    class Meta:
        model = Item
        fields = ["id", "name", "status", "price", "tags"]


class ItemViewSet(ModelViewSet):
    queryset = Item.objects.all()
    serializer_class = ItemSerializer
    lookup_value_regex = "[^/]+"


router = SimpleRouter()
router.register("items", ItemViewSet)
urlpatterns = [path("ready", lambda _: HttpResponse()), path("", include(router.urls))]
