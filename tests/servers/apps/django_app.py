from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from work import double

from lifepool import Pool
from lifepool.integrations.asgi import with_pool

settings.configure(SECRET_KEY="for this example", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
pool = Pool()


async def doubled(request: HttpRequest, n: int) -> JsonResponse:
    return JsonResponse(await pool.run(double, n, timeout=30), safe=False)


urlpatterns = [path("double/<int:n>", doubled)]
app = with_pool(get_asgi_application(), pool)  # Django itself knows no lifespan
