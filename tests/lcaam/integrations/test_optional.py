"""The library needs torch alone; an integration without its package says what to install."""

import subprocess
import sys

CODE = """
import sys, lcaam, lcaam.analysis, lcaam.controls, lcaam.integrations

packages = ("timm", "transformers")
print([name for name in packages if name in sys.modules])
for name in packages:
    sys.modules[name] = None
    try:
        __import__(f"lcaam.integrations.{name}")
    except ImportError as error:
        print(error)
"""


def test_lcaam_imports_no_other_package_and_explains_what_an_integration_lacks():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=True)
    imported, *messages = done.stdout.splitlines()
    assert imported == "[]"
    assert messages[0].startswith("lcaam.integrations.timm needs timm 1.0.26 or newer: pip install 'timm>=1.0.26'")
    assert messages[1].startswith("lcaam.integrations.transformers needs transformers 5.4 or newer")
    assert "pip install 'transformers>=5.4'" in messages[1]
    assert all("lcaam[lab]" in message for message in messages)
