from tests.engine.conftest import gate as gate
