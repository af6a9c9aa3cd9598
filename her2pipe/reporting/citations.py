"""What a study should cite: systems, methods and software."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Work(NamedTuple):
    """A work to cite; `when` names the aggregations, stain methods or other means it belongs to.

    Without any it is always cited. `status` and `classes` stand for what a study tells apart.
    """

    what: str
    who: str
    where: str
    doi: str
    when: tuple[str, ...] = ()


WORKS = (
    Work("TL-PA", "Li et al. 2025", "Breast Cancer Research 27:62", "10.1186/s13058-025-02008-7"),
    Work("CLAM", "Lu et al. 2021", "Nature Biomedical Engineering 5:555",
         "10.1038/s41551-020-00682-w", ("clam",)),
    Work("SlideGraph+", "Lu et al. 2022", "Medical Image Analysis 80:102486",
         "10.1016/j.media.2022.102486", ("slidegraph",)),
    Work("Fingerprints", "Rawat et al. 2020", "Scientific Reports 10:7275",
         "10.1038/s41598-020-64156-4", ("mlp",)),
    Work("Three-way classification of tumour regions", "Farahmand et al. 2022",
         "Modern Pathology 35:44", "10.1038/s41379-021-00911-w", ("mean",)),
    Work("Weak supervision of HER2-low", "Valieris et al. 2024", "Breast Cancer Research 26:124",
         "10.1186/s13058-024-01863-0", ("clam",)),
    Work("HER2 testing guideline", "Wolff et al. 2018", "Journal of Clinical Oncology 36:2105",
         "10.1200/JCO.2018.77.8738"),
    Work("Residual cancer burden", "Symmans et al. 2007", "Journal of Clinical Oncology 25:4414",
         "10.1200/JCO.2007.10.6823", ("status",)),
    Work("Stain normalisation", "Vahadane et al. 2016",
         "IEEE Transactions on Medical Imaging 35:1962", "10.1109/TMI.2016.2529665", ("vahadane",)),
    Work("Stain normalisation", "Macenko et al. 2009",
         "IEEE International Symposium on Biomedical Imaging, 1107", "10.1109/ISBI.2009.5193250",
         ("macenko", "macenko-dab")),
    Work("Variance and comparison of AUCs", "DeLong et al. 1988", "Biometrics 44:837",
         "10.2307/2531595"),
    Work("Their fast computation", "Sun and Xu 2014", "IEEE Signal Processing Letters 21:1389",
         "10.1109/LSP.2014.2337313"),
    Work("AUC of clustered data", "Obuchowski 1997", "Biometrics 53:567", "10.2307/2533958"),
    Work("Shares of clustered data", "Rao and Scott 1992", "Biometrics 48:577", "10.2307/2532311"),
    Work("Rank-sum tests of many groups", "Dunn 1964", "Technometrics 6:241",
         "10.1080/00401706.1964.10490181"),
    Work("Step-down adjustment", "Holm 1979", "Scandinavian Journal of Statistics 6:65", ""),
    Work("Exact comparison of calls", "McNemar 1947", "Psychometrika 12:153",
         "10.1007/BF02295996", ("classes",)),
    Work("Resampling of patients", "Davison and Hinkley 1997",
         "Bootstrap Methods and their Application, Cambridge University Press",
         "10.1017/CBO9780511802843", ("classes",)),
    Work("Grad-CAM", "Selvaraju et al. 2017", "IEEE International Conference on Computer Vision, "
         "618", "10.1109/ICCV.2017.74", ("explain",)),
    Work("Interval of rank correlation", "Bonett and Wright 2000", "Psychometrika 65:23",
         "10.1007/BF02294183"),
    Work("Interval of proportions", "Wilson 1927",
         "Journal of the American Statistical Association 22:209",
         "10.1080/01621459.1927.10502953"),
    Work("Weighted kappa", "Cohen 1968", "Psychological Bulletin 70:213", "10.1037/h0026256"),
    Work("Swin Transformer", "Liu et al. 2021", "IEEE/CVF ICCV, 9992",
         "10.1109/ICCV48922.2021.00986"),
    Work("timm", "Wightman 2019", "PyTorch Image Models", "10.5281/zenodo.4414861"),
    Work("PyTorch 2", "Ansel et al. 2024", "ACM ASPLOS, 929", "10.1145/3620665.3640366"),
    Work("Snakemake", "Mölder et al. 2021", "F1000Research 10:33",
         "10.12688/f1000research.29032.2"),
    Work("OpenSlide", "Goode et al. 2013", "Journal of Pathology Informatics 4:27",
         "10.4103/2153-3539.119005"),
    Work("TIAToolbox", "Pocock et al. 2022", "Communications Medicine 2:120",
         "10.1038/s43856-022-00186-5"),
)  # fmt: skip


def cited(used: Collection[str]) -> list[Work]:
    """List the works of a study that uses these aggregations, stain methods and other means."""
    return [work for work in WORKS if not work.when or set(work.when) & set(used)]
