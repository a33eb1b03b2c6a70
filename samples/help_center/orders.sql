-- Orders of Casa Aurora for the tenant `default`; running it again changes nothing.

insert into shop_order
    (tenant, number, customer, status, placed_on, expected_on, tracking_code, total, currency)
values
    ('default', 'AU-20311', 'ana@example.com', 'shipped', current_date - 4, current_date + 2,
     'BR728193645', 489.00, 'BRL'),
    ('default', 'AU-20324', 'john@example.com', 'paid', current_date - 1, current_date + 6,
     null, 1299.90, 'BRL'),
    ('default', 'AU-20288', 'ana@example.com', 'delivered', current_date - 15, current_date - 9,
     'BR728110027', 89.90, 'BRL')
on conflict do nothing;
