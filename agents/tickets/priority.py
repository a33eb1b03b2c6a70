"""How soon somebody should look at a message."""

from rotina.graphs.classification import Classification, Label

PRIORITY = Classification(
    name="priority",
    instructions=(
        "The texts are messages of customers to an online shop. Judge how soon the shop must act, "
        "not how angry the customer is."
    ),
    none_of_these=False,
    labels=[
        Label(
            "urgent",
            "Danger, fraud, an account taken over, or a legal threat: within the hour",
            [
                "The charger caught fire while I was sleeping.",
                "Somebody hacked my account and is buying things.",
                "There are charges on my card that I never made.",
                "My lawyer will sue you unless this is solved today.",
                "My son was hurt by the broken toy.",
                "Invadiram o meu cadastro e trocaram a senha.",
                "Saiu fumaça da cafeteira e queimou a tomada.",
                "Não fiz essa compra, usaram o meu cartão!",
                "Vou acionar o Procon e o meu advogado hoje mesmo.",
                "A peça se soltou e cortou a mão da minha filha.",
            ],
        ),
        Label(
            "high",
            "Money or goods are missing, or a date is close: today",
            [
                "I was charged twice for the same order.",
                "The gift must be here tomorrow and has not been shipped.",
                "My package is marked as delivered but never came.",
                "The fridge arrived broken and my food is spoiling.",
                "I have waited a month for my refund.",
                "O presente precisa chegar amanhã e ainda não saiu.",
                "Espero o reembolso há um mês.",
                "Consta como entregue, mas ninguém recebeu.",
                "Paguei e o pedido sumiu do sistema.",
                "Viajo na sexta e preciso da mala antes.",
            ],
        ),
        Label(
            "normal",
            "A request that needs an answer, without haste: within two days",
            [
                "Where is my order?",
                "I want to return these shoes.",
                "Can I swap this shirt for a larger size?",
                "I cannot log in to my account.",
                "Please send me the invoice of my purchase.",
                "Onde está o meu pedido?",
                "Dá para trocar a camisa por um tamanho maior?",
                "Preciso da nota fiscal da minha compra.",
                "Quero devolver o tapete.",
                "O cupom não foi aceito no site.",
            ],
        ),
        Label(
            "low",
            "Questions before buying, praise, suggestions: when there is time",
            [
                "Is this jacket waterproof?",
                "Do you have gift cards?",
                "Thank you, everything arrived perfectly.",
                "You should offer more colours.",
                "What are your opening hours?",
                "Vocês vendem vale-presente?",
                "Obrigada, chegou tudo certinho.",
                "Deveriam ter mais cores dessa camiseta.",
                "Qual é o horário de atendimento?",
                "Esse tecido amassa muito?",
            ],
        ),
    ],
)
