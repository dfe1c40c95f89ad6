"""Kinds of files that were refused once, or read in part: Lightning, lines that are no Python, lost files."""

from audit.notebook import cells
from audit.notebook.claims import Limits
from audit.notebook.verdict import audit_notebook
from tests.audit.notebook.programs import EVALUATE, OPTIMIZER, RIGHT, STEP, TRAIN, program
from tests.audit.notebook.written import WHOLE, write

BEFORE = RIGHT[: RIGHT.index("def one_epoch")]
MODULE = """
class Lit(L.LightningModule):
    def __init__(self, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = Small()

    def training_step(self, batch):
        images, labels = batch
        return {"loss": F.nll_loss(self.net(images), labels)}

    def validation_step(self, batch, index):
        images, labels = batch
        self.log("acc", (self.net(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
"""
DATA = """
class Digits(L.LightningDataModule):
    def setup(self, stage=None):
        self.ours, self.kept = torch.utils.data.random_split(whole, [0.9, 0.1])

    def train_dataloader(self):
        return torch.utils.data.DataLoader(self.ours, batch_size=100, shuffle=True)

    def val_dataloader(self):
        return torch.utils.data.DataLoader(self.kept, batch_size=1000)
"""


def audited(folder, text, name="program.py"):
    file = folder / name
    file.write_text(text)
    return audit_notebook(file, Limits())


def lightning(folder, end, imported="import lightning as L\n"):
    return audited(folder, imported + BEFORE + MODULE + DATA + end)


def test_lightnings_trainer_is_the_loops_that_it_runs(tmp_path):
    audit = lightning(tmp_path, "L.Trainer(max_epochs=15).fit(Lit(), loader, held)\n")
    assert (audit.network.class_name, audit.network.parameters, audit.mistakes) == ("Small", 808, ())
    assert audit.recipe.recipe.flags == (
        "--epochs=15 --batch_size=3000 --learning_rate=0.1 --schedule=OneCycleLR --warmup=0.3"
    )
    assert audit.recipe.stepped == "batch"


def test_lightnings_data_module_brings_the_loaders(tmp_path):
    end = "L.Trainer(max_epochs=3, gradient_clip_val=1.0).fit(Lit(0.02), datamodule=Digits())\n"
    audit = lightning(tmp_path, end, "import pytorch_lightning as L\n")
    assert (audit.recipe.flags["epochs"], audit.recipe.flags["batch_size"]) == (3, 100)
    assert audit.recipe.held_out == 6_000
    assert [fact.detail for fact in audit.recipe.missing] == ["clip_grad_norm_: ours are not clipped"]


def test_lightnings_training_that_may_end_sooner(tmp_path):
    end = "L.Trainer(max_epochs=9, callbacks=[L.callbacks.EarlyStopping('acc')]).fit(Lit(), loader, held)\n"
    audit = lightning(tmp_path, end)
    assert "the loop may end sooner" in [fact.detail for fact in audit.recipe.departures]
    cut = audited(
        tmp_path,
        "import lightning as L\n"
        + BEFORE
        + MODULE
        + end.replace("callbacks=[L.callbacks.EarlyStopping('acc')]", "limit_train_batches=10"),
    )
    assert "the loop does not train on every batch" in [fact.detail for fact in cut.recipe.missing]


def test_a_line_that_is_no_python_is_lost_and_its_cell_is_not(tmp_path):
    imports = WHOLE[0] + "from torch.optim import ?\n"
    audit = audit_notebook(write(tmp_path, imports, *WHOLE[1:]), Limits())
    assert audit.network is not None
    assert [finding.name for finding in audit.findings if "?" in finding.what] == ["not_python"]


def test_a_class_goes_with_its_line_that_is_no_python(tmp_path):
    net = WHOLE[1].replace("x = self.body(x)", "x = self.body(x")
    audit = audit_notebook(write(tmp_path, WHOLE[0], net, *WHOLE[2:]), Limits())
    assert audit.network is None
    assert "cell 2, line 1, where it is defined, is no Python" in audit.refused


def test_a_notebook_that_is_python_text(tmp_path):
    audit = audited(tmp_path, RIGHT, "program.ipynb")
    assert (audit.network.parameters, audit.recipe.recipe.epochs) == (808, 4)
    assert not cells.read(tmp_path / "program.ipynb").is_notebook


def test_a_file_that_is_not_there_is_named(tmp_path):
    parts = RIGHT.partition("class Small"), RIGHT.partition("torch.manual_seed")
    audit = audited(tmp_path, f"{parts[0][0]}from nets.small import Small\n{''.join(parts[1][1:])}")
    assert "nets/small.py is not beside it" in audit.refused
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("from .small import Small\n")
    (tmp_path / "nets" / "small.py").write_text(parts[1][0])
    audit = audited(tmp_path, f"{parts[0][0]}from nets import Small\n{''.join(parts[1][1:])}")
    assert (audit.refused, audit.network.parameters) == (None, 808)


def test_a_step_before_all_gradients_is_none(tmp_path):
    text = program("right").replace(OPTIMIZER, f"{OPTIMIZER}optimizer.step()\n")
    assert audited(tmp_path, text).recipe.recipe is not None


def test_epochs_of_other_images_leave_the_recipe_in_part(tmp_path):
    other = f"    loader = torch.utils.data.DataLoader(whole, batch_size=100 * (epoch + 1))\n{TRAIN}"
    audit = audited(
        tmp_path,
        program("right")
        .replace(TRAIN, other)
        .replace("def one_epoch(net, optimizer):", "def one_epoch(net, optimizer):\n    global loader"),
    )
    assert audit.recipe.flags["epochs"] == 4
    assert audit.recipe.recipe is None


def test_test_images_are_judged_whichever_network_gets_them(tmp_path):
    turned = ("train=False, transform=plain", "train=False, transform=turned")
    for name, mistake in (
        ("an old network's optimizer", "optimizer_of_other_model"),
        ("another network evaluated", "other_model_evaluated"),
    ):
        audit = audited(tmp_path, program(name).replace(*turned))
        assert {each.name for each in audit.mistakes} == {mistake, "test_images_augmented"}
    audit = audited(tmp_path, program("an old network's optimizer").replace("net.train()", "net.eval()"))
    assert {each.name for each in audit.mistakes} == {"optimizer_of_other_model", "stays_in_evaluation"}


def test_a_training_that_was_not_found_is_no_evaluation(tmp_path):
    text = program("right").replace(STEP, "        accelerator.step(optimizer)\n").replace(EVALUATE, "")
    audit = audited(tmp_path, f"from accelerate import accelerator\n{text}")
    assert audit.recipe.epochs is None
    assert audit.mistakes == ()


def test_a_printed_rate_that_no_schedule_has(tmp_path):
    schedule = "schedule = optim.lr_scheduler.CyclicLR(optimizer, 0.01, 0.3)\n"
    for printed, mistakes in (("0.7", ["printed_settings"]), ("0.3", []), ("0.05", [])):
        text = program("right").replace(OPTIMIZER, f'{OPTIMIZER}{schedule}print("lr:", {printed})\n')
        text = text.replace(EVALUATE, f"{EVALUATE}    schedule.step()\n")
        assert [each.name for each in audited(tmp_path, text).mistakes] == mistakes


def test_a_printed_rate_of_an_optimizer_that_has_no_flag(tmp_path):
    for made, mistakes in (("lr=0.7", []), ("0.7", []), ("lr=0.5", ["printed_settings"])):
        other = f"optimizer = optim.Adadelta(net.parameters(), {made})\nprint('lr:', 0.7)\n"
        audit = audited(tmp_path, program("right").replace(OPTIMIZER, other))
        assert [each.name for each in audit.mistakes] == mistakes
